"""``python Testing/panel/pictures.py FOLDER``: the panel and the slice views at work, as pictures to look at.

On the brain tumour of ../shared/data where that is, on a generated CT elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING / "panel"), str(TESTING.parent / "BioSAM2Slicer")]
DATA = TESTING.parents[1] / "shared" / "data"

import host as slicer_host  # noqa: E402

HOST = slicer_host.start()

from BioSAM2SlicerLib.WorkerClient import WorkerClient  # noqa: E402
from BioSAM2SlicerLib.WorkerPlace import PYTHON, WorkerPlace  # noqa: E402
from host import event_loop  # noqa: E402
from panel_helpers import add_volume, load_volume  # noqa: E402


def main(folder: Path) -> None:
    """Write the pictures."""
    import numpy as np
    from test_panel_widget import Panel

    folder.mkdir(parents=True, exist_ok=True)
    volume, box = case()
    HOST.show(volume)
    panel = Panel(HOST, lambda: WorkerClient(WorkerPlace(PYTHON, sys.executable).command()), None)
    try:
        panel.click("box")
        low, high = np.array(box[0]), np.array(box[1])
        HOST.views["Red"].drag(panel.world(*low), panel.world(*high))
        panel.settle()
        grab(panel, folder, "box")
        panel.click("point")
        panel.find("sign").click()
        HOST.views["Red"].click(panel.world(high[0] + 6, high[1] + 6, low[2]))
        panel.settle()
        panel.click("propagate")
        event_loop.wait_until(lambda: len(panel.session._journal.finished(panel.segment())) >= 4)
        grab(panel, folder, "propagating")
        panel.settle()
        for name in ("Yellow", "Green"):
            HOST.views[name].go_to(panel.world(*(low + high) / 2))
        grab(panel, folder, "done")
    finally:
        panel.widget.cleanup()


def case() -> tuple[Any, tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """A volume in the scene, and a box around something in it (corners i, j, k)."""
    path = DATA / "mr-brain-tumour"
    if not path.exists():
        from biosam2.phantom import ct_phantom

        case = ct_phantom()
        k, j, i = np_box(case.lesion)
        return add_volume(HOST, case.volume.array), ((i[0], j[0], k), (i[1], j[1], k))
    label = load_volume(HOST, path / "label.nrrd")
    truth = HOST.slicer.util.arrayFromVolume(label).astype(bool)
    HOST.scene.RemoveNode(label)
    k, j, i = np_box(truth)
    return load_volume(HOST, path / "image.nrrd"), ((i[0], j[0], k), (i[1], j[1], k))


def np_box(truth: Any) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """The slice with the largest section, and the section's bounds along j and i, two voxels wider."""
    import numpy as np

    k = int(truth.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(truth[k])
    return k, (int(rows.min()) - 2, int(rows.max()) + 2), (int(columns.min()) - 2, int(columns.max()) + 2)


def grab(panel: Any, folder: Path, name: str) -> None:
    """The panel, and the three slice views."""
    panel.window.grab().save(str(folder / f"{name}-panel.png"))
    for view, widget in HOST.views.items():
        widget.picture(folder / f"{name}-{view.lower()}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
