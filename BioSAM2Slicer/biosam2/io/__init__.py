"""Reading and writing: images, volumes, videos, labelmaps and segmentations of every format.

To add an image format, see `reading` (which names a module for each kind); to add an output, see `segmentation`.
Nothing heavy is imported before a file of its kind is read or written.
"""

from .areas import write_areas
from .atomic import atomic_folder, atomic_path
from .grid import same_grid
from .parts import files_of
from .reading import read_image, read_video, read_volume
from .segmentation import read_labelmap, read_segmentation, write_labelmap, write_segmentation
from .segmented import Segmented
from .video_output import write_overlay_video, write_video_masks

__all__ = [
    "Segmented",
    "atomic_folder",
    "atomic_path",
    "files_of",
    "read_image",
    "read_labelmap",
    "read_segmentation",
    "read_video",
    "read_volume",
    "same_grid",
    "write_areas",
    "write_labelmap",
    "write_overlay_video",
    "write_segmentation",
    "write_video_masks",
]
