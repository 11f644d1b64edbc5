"""``python Testing/panel/pictures.py FOLDER``: the panel and the slice views at work, as pictures to look at (and for
docs/panel.md).

On the brain tumour of ../shared/data where that is, on a generated CT elsewhere.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING / "panel"), str(TESTING.parent / "BioSAM2Slicer")]
DATA = TESTING.parents[1] / "shared" / "data"

import host as slicer_host  # noqa: E402

HOST = slicer_host.start()

from BioSAM2SlicerLib.ui.InstallPanel import InstallPanel  # noqa: E402
from BioSAM2SlicerLib.worker.InstallLogic import PACKAGES, PANEL_PACKAGES, InstallLogic  # noqa: E402
from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver  # noqa: E402
from BioSAM2SlicerLib.worker.WorkerPlace import HERE, PYTHON, WorkerPlace  # noqa: E402
from host import event_loop  # noqa: E402
from panel_helpers import add_volume, load_volume  # noqa: E402
from PIL import Image  # noqa: E402
from PySide6 import QtCore  # noqa: E402


def main(folder: Path) -> None:
    """Write the pictures."""
    import numpy as np
    from test_panel_widget import Panel

    folder.mkdir(parents=True, exist_ok=True)
    first_use(folder)
    volume, box = case()
    HOST.show(volume)
    panel = Panel(HOST, lambda: ProcessDriver(WorkerPlace(PYTHON, sys.executable).command()), None)
    try:
        panel.click("box")
        # Slicer's own colours are chosen by chance.
        panel.session.segmentationNode.GetSegmentation().GetNthSegment(0).SetColor(0.3, 0.9, 0.5)
        low, high = np.array(box[0]), np.array(box[1])
        HOST.views["Red"].drag(panel.world(*low), panel.world(*high))
        panel.settle()
        for name in ("Yellow", "Green"):
            HOST.views[name].go_to(panel.world(*(low + high) / 2))
        compose(panel, folder / "panel-box.png")
        panel.press(QtCore.Qt.Key.Key_Escape)
        panel.find("first").value, panel.find("last").value = box[0][2] - 5, box[0][2] + 2
        panel.click("propagate")
        panel.settle()
        panel.press(QtCore.Qt.Key.Key_N)
        review = panel.widget._review
        # Looked at as a user would: a slice a while.
        event_loop.wait_until(lambda: review.strip.states[low[2]].reviewed or review.strip.current != low[2], 10)
        compose(panel, folder / "panel-done.png")
        panel.window.grab().save(str(folder / "panel.png"))
        review.widget.grab().save(str(folder / "review.png"))
    finally:
        panel.widget.cleanup()
        panel.window.close()
    effect(folder)


def effect(folder: Path) -> None:
    """The Segment Editor with the effect: a box, and its mask."""
    HOST.close_scene()
    volume, box = case()
    HOST.show(volume)
    from BioSAM2SlicerLib.ui.Widget import Widget
    from segment_editor_window import Window

    import BioSAM2Slicer

    class Module(BioSAM2Slicer.BioSAM2SlicerWidget):
        def setup(self) -> None:
            self.logic = BioSAM2Slicer.BioSAM2SlicerLogic()
            self.panel = Widget(
                self.layout,
                self.logic.getParameterNode,
                lambda: ProcessDriver(WorkerPlace(PYTHON, sys.executable).command()),
            )

    BioSAM2Slicer.newEffect().self().register()
    window = Window(HOST, Module)
    try:
        window.open("SegmentEditor")
        segmentation = HOST.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        window.edit(volume, segmentation)
        window.segments("Lesion", "Oedema")
        segmentation.GetSegmentation().GetSegment("Lesion").SetColor(0.3, 0.9, 0.5)
        window.editor.setCurrentSegmentID("Lesion")
        window.choose()
        window.click("box")
        HOST.views["Red"].drag(window.world(*box[0]), window.world(*box[1]))
        window.settle()
        for name in ("Yellow", "Green"):
            HOST.views[name].go_to(window.world(*(sum(ends) / 2 for ends in zip(*box, strict=True))))
        window.window.resize(500, 740)
        event_loop.process_events()
        side_by_side(window.window, folder / "effect.png")
    finally:
        window.close()


def first_use(folder: Path) -> None:
    """What is asked where nothing is installed yet."""
    import qt

    window = qt.QWidget()
    panel = InstallPanel(
        qt.QVBoxLayout(window),
        WorkerPlace(),
        lambda _place: None,
        lambda kind: InstallLogic(
            PACKAGES if kind == HERE else PANEL_PACKAGES,
            kind == HERE,
            isThere=lambda _module: False,
            versionOf=lambda _name: "",
        ),
    )
    window.resize(520, 430)
    window.show()
    event_loop.process_events()
    window.grab().save(str(folder / "first-use.png"))
    panel.cleanup()
    window.close()


def compose(panel: Any, path: Path) -> None:
    """The panel and the three slice views in one picture, as they stand in Slicer's window."""
    # What a module gets in Slicer's default layout on a screen of 1080 lines.
    panel.window.layout().setContentsMargins(0, 0, 0, 0)
    event_loop.process_events()
    panel.window.resize(500, 740)
    event_loop.process_events()
    side_by_side(panel.window, path)


def side_by_side(window: Any, path: Path) -> None:
    """A window and the three slice views in one picture."""
    window.grab().save(str(path))
    with Image.open(path) as grabbed:
        left = grabbed.convert("RGB")
    with tempfile.TemporaryDirectory() as folder:
        views = []
        for name, view in HOST.views.items():
            view.picture(Path(folder) / f"{name}.png")
            views.append(Image.open(Path(folder) / f"{name}.png").convert("RGB"))
    side = (left.height - 8) // 3
    whole = Image.new("RGB", (left.width + side + 4, left.height), left.getpixel((2, 2)))
    whole.paste(left, (0, 0))
    for number, view in enumerate(views):
        whole.paste(view.resize((side, side), Image.Resampling.LANCZOS), (left.width + 4, number * (side + 4)))
    whole.save(path, optimize=True)


def case() -> tuple[Any, tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """A volume in the scene, and a box around something in it (corners i, j, k)."""
    path = DATA / "mr-brain-tumour"
    if not path.exists():
        from biosam2.synthetic.phantom import ct_phantom

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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
