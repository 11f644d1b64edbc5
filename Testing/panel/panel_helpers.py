"""Volumes of all orientations in the scene."""

from __future__ import annotations

from typing import Any

import numpy as np


def tilted() -> np.ndarray:
    """Directions of an oblique volume: 20 degrees about x, then 15 about z; k flipped."""
    a, b = np.radians(20), np.radians(15)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_z @ about_x @ np.diag([1.0, 1.0, -1.0])


GRIDS = {
    "axial": np.diag([-1.0, -1.0, 1.0]),
    "flipped": np.diag([1.0, -1.0, -1.0]),
    "sagittal": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": tilted(),
}


def add_volume(
    host: Any,
    array: np.ndarray,
    directions: np.ndarray = GRIDS["axial"],
    spacing: tuple[float, float, float] = (0.8, 1.1, 2.5),
    origin: tuple[float, float, float] = (12.0, -30.0, 7.0),
    name: str = "image",
) -> Any:
    """A scalar volume in the scene; directions in RAS, columns i, j, k."""
    import vtk

    node = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    host.slicer.util.updateVolumeFromArray(node, array)
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, directions[row, column] * spacing[column])
        matrix.SetElement(row, 3, origin[row])
    node.SetIJKToRASMatrix(matrix)
    node.CreateDefaultDisplayNodes()
    return node


def add_transform(host: Any, degrees: float = 30.0, bent: bool = False) -> Any:
    """A transform node: turned about (1, 2, 3) and moved, or a thin-plate spline."""
    import vtk

    if bent:
        node = host.scene.AddNewNodeByClass("vtkMRMLTransformNode")
        spline = vtk.vtkThinPlateSplineTransform()
        source, target = vtk.vtkPoints(), vtk.vtkPoints()
        for corner in np.ndindex(2, 2, 2):
            place = (np.array(corner) - 0.5) * 200
            source.InsertNextPoint(*place)
            target.InsertNextPoint(*(place + np.array([6.0, -4.0, 3.0]) * (1 + corner[0])))
        spline.SetSourceLandmarks(source)
        spline.SetTargetLandmarks(target)
        spline.SetBasisToR()
        node.SetAndObserveTransformToParent(spline)
        return node
    node = host.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform = vtk.vtkTransform()
    transform.Translate(5, -7, 11)
    transform.RotateWXYZ(degrees, 1, 2, 3)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def load_volume(host: Any, path: Any) -> Any:
    """A volume file in the scene, by Slicer's own reader."""
    node = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.parent.name)
    storage = host.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    storage.SetCenterImage(0)
    assert storage.ReadData(node)
    node.CreateDefaultDisplayNodes()
    return node


def save_scene(host: Any, folder: Any) -> None:
    """As Slicer's Save dialog: every storable node into a file of its own, then the scene."""
    scene = host.scene
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = scene.GetNthNodeByClass(number, "vtkMRMLStorableNode")
        if not node.GetSaveWithScene() or node.IsA("vtkMRMLColorNode"):
            continue
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is None:
            continue
        extension = storage.GetDefaultWriteFileExtension()
        storage.SetFileName(str(folder / f"{number}-{node.GetName().split()[0]}.{extension}"))
        assert storage.WriteData(node)
    scene.SetRootDirectory(str(folder))
    assert scene.Commit(str(folder / "scene.mrml"))


def load_scene(host: Any, folder: Any) -> None:
    """As Slicer opens it."""
    host.scene.SetURL(str(folder / "scene.mrml"))
    assert host.scene.Connect()


def make_kept_worker() -> Any:
    """A driver whose worker goes on running when a session releases it, and takes up the next one's."""
    import sys

    from BioSAM2SlicerLib.Signal import Signal
    from BioSAM2SlicerLib.worker.ProcessDriver import READY, STOPPED, ProcessDriver
    from BioSAM2SlicerLib.worker.WorkerPlace import PYTHON, WorkerPlace

    class KeptWorker(ProcessDriver):
        def start(self, *opening: Any, onOpened: Any = None) -> None:  # noqa: N803
            if self._process is not None:
                self._become(READY)
            super().start(*opening, onOpened=onOpened)

        def stop(self) -> None:
            self.conversation.drop_all()
            self.conversation.interrupted()
            # The next session counts its entries anew.
            self.conversation.forget(0)
            self._arrived.clear()
            self.stateChanged, self.noticed, self.progressed, self.died = Signal(), Signal(), Signal(), Signal()
            self._state = STOPPED

        def end(self) -> None:
            super().stop()

    return KeptWorker(WorkerPlace(PYTHON, sys.executable).command())


def save_bundle(host: Any, path: Any) -> None:
    """As Slicer saves a scene into one file, .mrb, whatever is going on; nobody is told before."""
    assert host.scene.WriteToMRB(str(path))


def load_bundle(host: Any, path: Any) -> None:
    """As Slicer opens it, in place of what the scene holds."""
    assert host.scene.ReadFromMRB(str(path), True)
