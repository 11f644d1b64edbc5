"""Segments as files for others: labelmaps with a colour table, segmentations, DICOM SEG; a record beside each."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from biosam2 import record as records
from biosam2.errors import DependencyError, InputError, OutputError
from biosam2.io import sequence
from biosam2.io.areas import write_areas
from biosam2.io.atomic import atomic_path
from biosam2.io.formats import extension
from biosam2.io.grid import same_grid
from biosam2.io.itk import read_grid
from biosam2.io.review import Review
from biosam2.io.segmentation import LABELMAP, write_labelmap
from biosam2.io.segmented import labelmap_of
from biosam2.io.terminology import Terminology
from biosam2.io.video_output import write_overlay_video, write_video_masks
from biosam2.session import ModelFacts
from biosam2.session.entries import from_json, renamed, to_json
from biosam2.volume import Volume
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..scene import DicomSource
from ..scene.SequenceVideo import videoOf
from ..scene.VolumeGeometry import VolumeGeometry, volumeOf
from ..session.PanelSession import PanelSession
from ..worker.InstallLogic import installedVersion

SEGMENTATION, DICOM = ".seg.nrrd", ".dcm"
# What the file dialog offers: the file's ending, and what it is for.
FORMATS = {
    SEGMENTATION: "3D Slicer segmentation",
    ".nii.gz": "NIfTI labelmap",
    ".nrrd": "NRRD labelmap",
    DICOM: "DICOM SEG",
}
# Of a video, besides.
SEQUENCE, PICTURES, MOVIE, AREAS = ".seq.nrrd", ".png", ".mp4", ".csv"
VIDEO_FORMATS = {
    SEQUENCE: "Sequence of labelmaps",
    PICTURES: "PNG a frame, in a folder",
    MOVIE: "Video with the masks",
    AREAS: "Areas over time",
}
_TAG = "BioSAM2."


class Segments:
    """A segmentation node's segments on its volume's voxels, as `biosam2.io` writes them.

    Args:
        segmentationNode: what was segmented.
        volumeNode: on what.
        volume: its voxels, where they are not the node's own.

    Raises:
        InputError: there is no segment.
    """

    def __init__(self, segmentationNode: Any, volumeNode: Any, volume: Volume | None = None) -> None:
        self._node, self._volumeNode = segmentationNode, volumeNode
        self.volume = volume or volumeOf(volumeNode)
        self.names = namesOf(segmentationNode)
        if not self.names:
            raise InputError("there is nothing to export: add a segment first")
        self._ids = {name: segmentId for segmentId, name in self.names.items()}

    @property
    def segments(self) -> Sequence[str]:
        """Names, in order; no two are the same."""
        return list(self._ids)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """The segment's voxels, bool (K, J, I)."""
        return maskOf(self._node, self._ids[name], self._volumeNode)

    def labelmap(self) -> NDArray[np.uint8 | np.uint16]:
        """uint8 or uint16 (K, J, I): 1 and up in the segments' order, the later one where they overlap."""
        return labelmap_of(self.volume.shape, self._ids, self.mask)


class Exporter:
    """Writes segmentations; each file appears whole, or not at all.

    Args:
        getModel: says which network drew.
        fileOfInstance: gives the path of a DICOM instance by its identifier; Slicer's DICOM database by default.

    Example:
        >>> Exporter(lambda: session.model).write(path, segmentationNode, volumeNode, session.toRecord())
    """

    def __init__(self, getModel: Callable[[], ModelFacts], fileOfInstance: Callable[[str], str] | None = None) -> None:
        self._getModel = getModel
        self._fileOfInstance = fileOfInstance or DicomSource.fileOfInstance

    def formats(self, volumeNode: Any, video: bool = False) -> dict[str, str]:
        """What can be written for a volume: endings, and what they are. DICOM SEG needs a volume from DICOM.

        Args:
            volumeNode: the volume, or None.
            video: whether its slices k are the frames of a video.
        """
        fromDicom = volumeNode is not None and bool(DicomSource.instancesOf(volumeNode))
        found = {ending: text for ending, text in FORMATS.items() if ending != DICOM or fromDicom}
        return {**found, **(VIDEO_FORMATS if video else {})}

    def write(
        self,
        path: Path,
        segmentationNode: Any,
        volumeNode: Any,
        session: Mapping[str, Any],
        review: Review | None = None,
    ) -> list[Path]:
        """Write all segments, and the record of how they came about.

        Args:
            path: its ending is the format: .seg.nrrd, .nrrd, .nii.gz, .mha, or .dcm; of a video .seq.nrrd, .png (a
                folder of that name without the ending), .mp4, or .csv (areas) as well.
            segmentationNode: what is written, before any transform: on the volume's own voxels.
            volumeNode: what was segmented.
            session: what was said and done, see `PanelSession.toRecord`.
            review: what a person looked at and approved, see `reviewOf`; the record and DICOM SEG say it.

        Returns:
            The files that were written.

        Raises:
            InputError: there is no segment, or none that this format can hold.
            OutputError: a file cannot be written.
            DependencyError: DICOM SEG is asked for, and highdicom is not installed, or not without a restart of
                Slicer; or a video, and PyAV is not installed.
        """
        kind = extension(path)
        if kind == DICOM:
            _requireLoadedPydicom()
        segments: Segments
        if kind == DICOM:
            segments = _Flipped(segmentationNode, volumeNode, self._dicomVolume(volumeNode))
        else:
            segments = Segments(segmentationNode, volumeNode, videoOf(volumeNode) if kind in VIDEO_FORMATS else None)
        record = self.record(segments, volumeNode, session)
        if review is not None:
            record = records.with_review(record, review)
        self._tag(segmentationNode, record)
        written = [path]
        if kind == SEGMENTATION:
            _bySlicer(path, slicer.vtkMRMLSegmentationStorageNode(), segmentationNode)
        elif kind in LABELMAP:
            write_labelmap(path, segments.volume, segments.labelmap())
            table = path.with_name(path.name.removesuffix(kind) + ".ctbl")
            _bySlicer(table, slicer.vtkMRMLColorTableStorageNode(), colourTable(segmentationNode))
            written.append(table)
        elif kind in VIDEO_FORMATS:
            written = [self._writeVideo(path, kind, segments, segmentationNode, session["window"])]
        else:
            from biosam2.io.dicom import seg

            if review is not None and isinstance(segments, _Flipped):
                review = segments.reviewInFiles(review)
            seg.write(path, segments, looks=self._looks(segmentationNode), review=review)
        record["outputs"] = [{"path": file.name, "sha256": records.hash_input(file)} for file in written]
        beside = path.with_name(path.name.removesuffix(kind) + ".json")
        records.write(beside, record)
        return [*written, beside]

    def _writeVideo(
        self, path: Path, kind: str, segments: Segments, segmentationNode: Any, window: tuple[float, float]
    ) -> Path:
        """Write a format of `VIDEO_FORMATS`.

        Returns:
            The file or folder that was written.
        """
        segmentation = segmentationNode.GetSegmentation()
        colours = [segmentation.GetSegment(segmentId).GetColor() for segmentId in segments.names]
        if kind == SEQUENCE:
            sequence.write(path, segments, colours=colours)
        elif kind == PICTURES:
            path = path.with_suffix("")
            write_video_masks(path, segments)
        elif kind == MOVIE:
            write_overlay_video(path, segments, window=window, colours=colours)
        else:
            write_areas(path, segments)
        return path

    def record(self, segments: Segments, volumeNode: Any, session: Mapping[str, Any]) -> dict[str, Any]:
        """What went in, what was done and what came out, as JSON data; `biosam2 replay` does it again.

        It holds no patient data but the path of the volume's file, where it came from one.
        """
        model = self._getModel()
        path, sha256, reversedSlices = _source(volumeNode)
        source = {
            "path": path,
            "sha256": sha256,
            "reversed_slices": reversedSlices,
            "voxels_sha256": hashlib.sha256(np.ascontiguousarray(segments.volume.array).tobytes()).hexdigest(),
        }
        journal = [to_json(renamed(from_json(entry), segments.names)) for entry in session["journal"]]
        record = records.build("segment", source, model, {**session, "journal": journal}, segments, typed=model.name)
        record["versions"]["slicer"] = slicer.app.applicationVersion
        return record

    # -- inside ---------------------------------------------------------------------------------

    def _tag(self, segmentationNode: Any, record: dict[str, Any]) -> None:
        """Note in each segment how it came about; the tags are saved with scene and .seg.nrrd."""
        journal = record["session"]["journal"]
        for segmentId, name in namesOf(segmentationNode).items():
            segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
            own = [entry for entry in journal if name in (entry.get("segment"), *entry.get("segments", ()))]
            if not own:
                continue
            for key, value in (
                ("model", record["model"]["name"]),
                ("modelSHA256", record["model"]["sha256"]),
                ("voxelsSHA256", record["input"]["voxels_sha256"]),
                ("version", record["versions"].get("biosam2", "")),
                # The file keeps tags as key:value|key:value; JSON has another way to write the bar.
                ("journal", json.dumps(own, separators=(",", ":")).replace("|", "\\u007c")),
            ):
                segment.SetTag(_TAG + key, value)

    def _looks(self, segmentationNode: Any) -> dict[str, Any]:
        """Each segment's colour and terminology, by name.

        Raises:
            InputError: a segment's terminology is damaged.
        """
        from biosam2.io.dicom.seg import Look

        looks = {}
        for segmentId, name in namesOf(segmentationNode).items():
            segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
            entry = vtk.reference("")
            segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
            try:
                looks[name] = Look(segment.GetColor(), Terminology.parse(str(entry)))
            except InputError as error:
                raise InputError(f"segment {name!r}: {error}") from error
        return looks

    def _dicomVolume(self, volumeNode: Any) -> Volume:
        """The volume as its DICOM files lay it out.

        Raises:
            InputError: it did not come from DICOM, its files are gone, or it was changed since.
        """
        from biosam2.io.dicom.geometry import arrange
        from biosam2.io.dicom.header import read_header

        files = [self._fileOfInstance(instance) for instance in DicomSource.instancesOf(volumeNode)]
        if not files or not all(files):
            raise InputError("DICOM SEG needs the volume's DICOM files in Slicer's DICOM database; export .seg.nrrd")
        headers = [read_header(Path(file)) for file in files]
        places = [place for header in headers for place in header.places]
        if not places:
            raise InputError("the volume's DICOM files do not say where its slices lie; export .seg.nrrd")
        grid = arrange(headers[0].path, places, [f"frame {n + 1}" for n in range(len(places))], headers[0].thickness)
        metadata: dict[str, Any] = {"dicom_files": [str(headers[n].path) for n in grid.order]}
        if len(headers) == 1:
            metadata = {"dicom_files": [str(headers[0].path)], "dicom_frames": list(grid.order)}
        own = volumeOf(volumeNode)
        if len(places) != own.shape[0] or (headers[0].rows, headers[0].columns) != own.shape[1:]:
            raise InputError("the volume is not what its DICOM files hold (cropped or resampled); export .seg.nrrd")
        return Volume(own.array, grid.spacing, grid.origin, grid.direction, metadata)


class _Flipped(Segments):
    """Segments in the order in which DICOM files lie, which may run against the node's."""

    def __init__(self, segmentationNode: Any, volumeNode: Any, volume: Volume) -> None:
        super().__init__(segmentationNode, volumeNode, volume)
        own = volumeOf(volumeNode)
        last = np.array(own.shape[::-1]) - 1.0
        corners = own.ijk_from_lps(volume.lps_from_ijk(np.array([np.zeros(3), last])))
        against = corners[0] > corners[1]
        expected = np.where(against, [last, np.zeros(3)], [np.zeros(3), last])
        if np.abs(corners - expected).max() > 0.1:
            raise InputError("the volume does not lie where its DICOM files say; export .seg.nrrd")
        self._against = dict(zip("ijk", against, strict=True))
        self._order = tuple(slice(None, None, -1 if flip else 1) for flip in against[::-1])

    def mask(self, name: str) -> NDArray[np.bool_]:
        return super().mask(name)[self._order]

    def reviewInFiles(self, review: Review) -> Review:
        """What was looked at, with slices counted as the files count them."""
        if not self._against[review.axis]:
            return review
        last = self.volume.shape["kji".index(review.axis)] - 1
        return replace(review, looked_at={n: tuple(last - s for s in seen) for n, seen in review.looked_at.items()})


def reviewOf(session: PanelSession, approved: bool = False, reviewer: str = "", when: str = "") -> Review:
    """What the user looked at in a session, by the segments' names.

    Args:
        session: whose segments they are.
        approved: whether all of it was approved.
        reviewer, when: who approved it, and the time, see `Review`.
    """
    seen = {
        name: tuple(index for index, each in session.reviewed(segmentId).items() if each.seen)
        for segmentId, name in namesOf(session.segmentationNode).items()
    }
    return Review(approved, reviewer, when, session.axis or "k", seen)


def namesOf(segmentationNode: Any) -> dict[str, str]:
    """Names of segments by identifier, in order; the second of a name is given a number."""
    segmentation = segmentationNode.GetSegmentation()
    names: dict[str, str] = {}
    for number in range(segmentation.GetNumberOfSegments()):
        segmentId = segmentation.GetNthSegmentID(number)
        name = wanted = segmentation.GetSegment(segmentId).GetName() or segmentId
        again = 2
        while name in names.values():
            name, again = f"{wanted} {again}", again + 1
        names[segmentId] = name
    return names


def maskOf(segmentationNode: Any, segmentId: str, volumeNode: Any) -> NDArray[np.bool_]:
    """A segment's voxels on a volume's grid, bool (K, J, I)."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentId, volumeNode)
    return np.zeros(VolumeGeometry(volumeNode).shape, bool) if array is None else array.astype(bool)


def colourTable(segmentationNode: Any) -> Any:
    """A colour table node, in no scene: label n is the nth segment's name and colour."""
    names = namesOf(segmentationNode)
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetNumberOfColors(len(names) + 1)
    table.SetColor(0, "background", 0.0, 0.0, 0.0, 0.0)
    for label, (segmentId, name) in enumerate(names.items(), start=1):
        colour = segmentationNode.GetSegmentation().GetSegment(segmentId).GetColor()
        table.SetColor(label, name, *colour, 1.0)
    return table


def _bySlicer(path: Path, storage: Any, node: Any) -> None:
    """Write a node by Slicer's own writer, without changing where the node is kept."""
    with atomic_path(path) as temporary:
        storage.SetFileName(str(temporary))
        if not storage.WriteData(node):
            raise OutputError(f"cannot write {path}: Slicer's error log says why")
        if node.IsA("vtkMRMLColorTableNode"):
            # Slicer writes the file's name into its header.
            text = temporary.read_text(encoding="utf-8")
            temporary.write_text(text.replace(str(temporary), path.name), encoding="utf-8")


def _source(volumeNode: Any) -> tuple[str, str, bool]:
    """Path and SHA-256 of the file that a volume was read from, and whether Slicer counts its slices from the other
    end, as it does in left-handed ones.

    The name alone where there is no single file, or where the volume was changed since.
    """
    storage = volumeNode.GetStorageNode()
    file = Path((storage.GetFileName() if storage is not None else None) or "")
    if file.is_file() and storage.GetNumberOfFileNames() <= 1 and not volumeNode.GetModifiedSinceRead():
        try:
            grid = read_grid(file)
        except InputError:
            pass  # Not a format of the engine's: it could not be read again.
        else:
            volume = volumeOf(volumeNode)
            for reversedSlices in (False, True):
                if same_grid(volume, grid.reversed_slices() if reversedSlices else grid):
                    return str(file), records.hash_input(file), reversedSlices
    return f"{volumeNode.GetName()} (3D Slicer)", "", False


def _requireLoadedPydicom() -> None:
    """Half of one pydicom and half of another would be at work where pip replaced the one that Slicer has loaded.

    Raises:
        DependencyError: that is so.
    """
    loaded, installed = getattr(sys.modules.get("pydicom"), "__version__", ""), installedVersion("pydicom")
    if loaded and installed and loaded != installed:
        raise DependencyError(
            _("Restart Slicer to write DICOM SEG: pydicom {loaded} is loaded, {installed} is installed.").format(
                loaded=loaded, installed=installed
            )
        )
