"""The session: prompts from the scene go to the worker, masks from the worker go into the segmentation."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from biosam2 import Mask
from biosam2.errors import BioSAM2Error
from biosam2.frames import CT_PRESETS, resolve_window
from biosam2.journal import Cleared, Entry, Prompted, Propagated, Removed
from biosam2.prompts import Prompt
from biosam2.service import messages as m
from biosam2.volume import Volume
from numpy.typing import NDArray

from .Parameters import Parameters, readParameters, writeParameters
from .PromptNodes import PlacedPrompt, PromptNodes, sliceOf
from .SegmentSlices import SegmentSlices, SliceChange, fitSegmentationToVolume
from .SessionJournal import Remark, SessionJournal
from .Signal import Signal
from .VolumeGeometry import VolumeGeometry
from .WorkerClient import DEAD, STOPPED, WorkerClient

# Updates that the worker may be ahead of the screen.
_AHEAD = 4
# A worker that dies more often than this in a row is not started again by itself.
_RESTARTS = 3


@dataclass(eq=False)
class _Step:
    """What one undo takes back: remarks in the journal, prompts, and voxels.

    Masks that the worker answers later still become part of the step that asked for them.
    """

    promptsBefore: dict[str, PlacedPrompt]
    promptsAfter: dict[str, PlacedPrompt] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    changes: list[SliceChange] = field(default_factory=list)
    worker: int = 0
    inForce: bool = True


@dataclass(eq=False)
class _Preview:
    """A slice whose mask was asked for.

    Attributes:
        step: the step that asked last.
        again: whether prompts came since the question went out.
    """

    step: _Step
    again: bool = False


@dataclass(eq=False)
class _Run:
    """A propagation under way."""

    step: _Step
    remark: Remark
    started: float
    received: int = 0
    total: int = 0


class SessionLogic:
    """The session of one volume and one segmentation. Nothing in it waits for the worker.

    Signals:
        statusChanged(str): one line on what is going on.
        stateChanged(): what can be done now has changed (running, undo, redo, input).
        progressChanged(done, total, slicesPerSecond, secondsLeft): of the propagation.
        maskWritten(segmentId, axis, index, score): a slice of a segment was written.
        problem(str): something that the user should read; one line.

    Args:
        parameterNode: where settings and journal are kept, so that they are saved with the scene.
        editorNode: the Segment Editor's settings; its masking settings hold for everything that is written.
        makeClient: makes a client for a worker, by default one in Slicer's Python.
        modelFields: more of `biosam2.service.messages.LoadModel`'s fields, for a checkpoint of one's own.
    """

    def __init__(
        self,
        parameterNode: Any,
        editorNode: Any,
        makeClient: Callable[[], WorkerClient],
        modelFields: dict[str, Any] | None = None,
    ) -> None:
        self.statusChanged = Signal()
        self.stateChanged = Signal()
        self.progressChanged = Signal()
        self.maskWritten = Signal()
        self.problem = Signal()
        self._node = parameterNode
        self._editor = editorNode
        self._makeClient = makeClient
        self._modelFields = modelFields
        self._client: WorkerClient | None = None
        self._workers = 0
        self._deaths = 0
        self._created = False
        # While a propagation is done again, what comes after it waits: a request would otherwise overtake it.
        self._repeating = False
        self._held: list[tuple[type, Callable[[Any], None] | None, dict[str, Any]]] = []
        self._volume: Any = None
        self._segmentation: Any = None
        self._geometry: VolumeGeometry | None = None
        self._prompts: PromptNodes | None = None
        self._slices: SegmentSlices | None = None
        self._journal = SessionJournal()
        self._undo: list[_Step] = []
        self._redo: list[_Step] = []
        self._previews: dict[tuple[str, int], _Preview] = {}
        self._run: _Run | None = None
        # What this session wrote last on a slice, packed; a slice that looks different was changed by the user.
        self._written: dict[tuple[str, int], NDArray[np.uint8]] = {}
        self._tags: list[tuple[Any, int]] = []
        self._file: Path | None = None
        self._status = ""
        self._surface = False
        # The axis of the view that the user points at; the panel knows.
        self.axisOfPointer: Callable[[], str] = lambda: "k"

    # -- what there is ---------------------------------------------------------------------------

    @property
    def parameters(self) -> Parameters:
        """The settings, from the scene."""
        return readParameters(self._node)

    @property
    def status(self) -> str:
        """The last status line."""
        return self._status

    @property
    def running(self) -> bool:
        """Whether a propagation is under way."""
        return self._run is not None

    @property
    def busy(self) -> bool:
        """Whether an answer of the worker is awaited."""
        return (
            self._run is not None
            or self._repeating
            or bool(self._previews)
            or (self._client is not None and self._client.waiting > 0)
        )

    @property
    def canUndo(self) -> bool:
        return bool(self._undo)

    @property
    def canRedo(self) -> bool:
        return bool(self._redo)

    @property
    def prompts(self) -> PromptNodes | None:
        """The markups; None without an input."""
        return self._prompts

    @property
    def volumeNode(self) -> Any:
        return self._volume

    @property
    def segmentationNode(self) -> Any:
        return self._segmentation

    @property
    def axis(self) -> str:
        """The session's axis; empty before the first prompt."""
        return self.parameters.axis

    def promptedSlices(self, segmentId: str) -> list[int]:
        """Slices with a prompt of this segment, ascending."""
        axis = self.axis
        return sorted({_sliceOf(prompt, axis) for _, prompt in self._journal.prompts(segmentId)}) if axis else []

    # -- input -----------------------------------------------------------------------------------

    def setInput(self, volumeNode: Any, segmentationNode: Any) -> bool:
        """Work on this volume and segmentation; None for nothing.

        Returns:
            Whether it can be: a segmentation that holds voxels on another grid cannot.
        """
        if volumeNode is self._volume and segmentationNode is self._segmentation:
            return True
        self._forget()
        if volumeNode is None or segmentationNode is None or volumeNode.GetImageData() is None:
            self._say("Choose a volume." if volumeNode is None else "")
            self.stateChanged.emit()
            return False
        if not fitSegmentationToVolume(segmentationNode, volumeNode):
            self._say("This segmentation lies on another grid than the volume: choose another, or a new one.")
            self.stateChanged.emit()
            return False
        self._volume, self._segmentation = volumeNode, segmentationNode
        self._geometry = VolumeGeometry(volumeNode)
        self._slices = SegmentSlices(segmentationNode, self._editor, volumeNode)
        self._prompts = PromptNodes(segmentationNode, volumeNode)
        self._prompts.added.connect(self._onPromptAdded)
        self._prompts.moved.connect(self._onPromptMoved)
        self._prompts.removed.connect(self._onPromptRemoved)
        self._prompts.refused.connect(self.problem.emit)
        self._reopenJournal()
        self._observe(volumeNode, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onVolumeReplaced)
        self._observe(volumeNode, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._onTransformed)
        self._observe(segmentationNode.GetSegmentation(), slicer.vtkSegmentation.SegmentRemoved, self._onSegmentRemoved)
        # A propagation's finished slices go into the scene at its end, or when the scene is saved.
        self._observe(slicer.mrmlScene, slicer.vtkMRMLScene.StartSaveEvent, lambda *_: self._save())
        self.connectWorker()
        self.stateChanged.emit()
        return True

    def setParameters(self, **changes: Any) -> None:
        """Change settings. Model and device take effect at once; the window and crop, with the next session."""
        before = self.parameters
        after = replace(before, **changes)
        if after == before:
            return
        writeParameters(self._node, after)
        if (before.model, before.device) != (after.model, after.device) and self._client is not None:
            self._restart()
        elif (before.window, before.crop) != (after.window, after.crop):
            if not self._journal.segments():
                writeParameters(self._node, replace(after, sessionWindow=()))
            elif before.window != after.window:
                self._say("The new window holds from the next session on; reset all segments to begin one.")

    def setNodes(self, parameterNode: Any, editorNode: Any) -> None:
        """Keep settings and journal in other nodes from now on, after the scene was closed; without an input."""
        self.setInput(None, None)
        self._node, self._editor = parameterNode, editorNode

    def cleanup(self) -> None:
        """Let go of scene and worker."""
        self._forget()
        if self._client is not None:
            client, self._client = self._client, None
            client.stop()

    # -- what the user does ----------------------------------------------------------------------

    def addBox(self, segmentId: str, minIjk: tuple[float, ...], maxIjk: tuple[float, ...], axis: str) -> None:
        """A box was drawn, flat on an axis."""
        if self._prompts is None:
            return
        if self.axis and self.axis != axis and self._journal.segments():
            self.problem.emit(
                f"This session goes along the {self.axis} axis: boxes belong on its slices; in this view use points."
            )
            return
        self._ensureSession(axis)
        before = self._prompts.prompts()
        name = self._prompts.addBox(segmentId, minIjk, maxIjk)  # type: ignore[arg-type]
        self._prompted(before, name, self._prompts.prompts()[name])

    def addMask(self, segmentId: str, index: int, axis: str = "") -> bool:
        """What is painted on a slice becomes a prompt; False where nothing is."""
        if self._slices is None or self._prompts is None:
            return False
        self._ensureSession(axis or self.axisOfPointer())
        mask = self._slices.readSlice(segmentId, self.axis, index)
        if not mask.any():
            self.problem.emit("Nothing is painted on this slice; paint the structure first.")
            return False
        step = self._newStep()
        self._addMask(step, segmentId, index, mask)
        self._commit(step)
        return True

    def propagate(
        self,
        segmentIds: Iterable[str] | None = None,
        direction: str = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> bool:
        """Carry segments through the volume; False if there is nothing to carry, or something is being carried."""
        if self._slices is None or self._run is not None:
            return False
        prompted = self._journal.segments()
        names = [name for name in prompted if segmentIds is None or name in set(segmentIds)]
        if not names:
            self.problem.emit("Mark the structure first: click into it, or draw a box around it.")
            return False
        step = self._newStep()
        for name in names:
            self._takeCorrections(step, name)
        remark = self._journal.add(Propagated(tuple(names), direction, first, last))
        step.remarks.append(remark)
        self._run = _Run(step, remark, time.monotonic())
        self._commit(step)
        self._throttleSurface(True)
        fields = {"segments": names, "direction": direction, "first": first, "last": last}
        self._send(m.CountSteps, self._onCounted, **fields)
        self._send(m.Propagate, self._onUpdate, credit=_AHEAD, **fields)
        self._say("Propagating …")
        self.stateChanged.emit()
        return True

    def stop(self) -> None:
        """Stop the propagation after the slice that it is at; finished slices stay."""
        if self._run is not None:
            self._tellOnly(m.Cancel)

    def clear(self, segmentId: str) -> None:
        """Drop a segment's prompts, and the masks that this session wrote; what the user painted stays."""
        if self._prompts is None or self._slices is None or not self.axis:
            return
        step = self._newStep()
        for name, placed in self._prompts.prompts().items():
            if placed.segmentId == segmentId:
                self._prompts.remove(name)
        for segment, index in list(self._written):
            if segment == segmentId and not self._isTheirs(segmentId, index):
                self._write(step, segmentId, index, np.zeros_like(self._read(segmentId, index)), None)
        if self._journal.prompts(segmentId) or self._journal.finished(segmentId):
            self._tell(step, Cleared(segmentId))
        self._previews = {key: value for key, value in self._previews.items() if key[0] != segmentId}
        self._commit(step)

    def undo(self) -> bool:
        """Take back the last step: prompts, journal and voxels together; False if there is none."""
        if not self._undo or self._prompts is None or self._slices is None:
            return False
        step = self._undo.pop()
        step.inForce = False
        self._redo.append(step)
        for change in reversed(step.changes):
            self._slices.restore(change)
            self._remember(change)
        self._prompts.restore(step.promptsBefore)
        for remark in step.remarks:
            self._journal.drop(remark)
            if step.worker == self._workers and self._created:
                self._send(m.Undo)
        self._afterUndo("Undone.")
        return True

    def redo(self) -> bool:
        """Put the step that was undone last in force again; False if there is none."""
        if not self._redo or self._prompts is None or self._slices is None:
            return False
        step = self._redo.pop()
        step.inForce = True
        self._undo.append(step)
        for change in step.changes:
            self._slices.restore(change, forward=True)
            self._remember(change)
        self._prompts.restore(step.promptsAfter)
        self._journal.remarks += step.remarks
        for remark in step.remarks:
            if step.worker == self._workers:
                self._send(m.Redo)
            else:
                self._replay(remark)
        step.worker = self._workers
        self._afterUndo("Done again.")
        return True

    # -- prompts ---------------------------------------------------------------------------------

    def _onPromptAdded(self, name: str, placed: PlacedPrompt) -> None:
        assert self._prompts is not None
        self._ensureSession(self.axisOfPointer())
        before = self._prompts.prompts()
        before.pop(name, None)
        self._prompted(before, name, placed)

    def _prompted(self, before: dict[str, PlacedPrompt], name: str, placed: PlacedPrompt) -> None:
        step = self._newStep(before)
        self._tell(step, Prompted(placed.segmentId, placed.prompt), name)
        self._commit(step)
        self._preview(step, placed.segmentId, _sliceOf(placed.prompt, self.axis))

    def _onPromptMoved(self, name: str, placed: PlacedPrompt) -> None:
        old = dict(self._journal.prompts(placed.segmentId)).get(name)
        if old is None or self._prompts is None:
            return
        before = self._prompts.prompts()
        before[name] = PlacedPrompt(placed.segmentId, old)  # type: ignore[arg-type]
        step = self._newStep(before)
        self._retract(step, placed.segmentId, name)
        self._tell(step, Prompted(placed.segmentId, placed.prompt), name)
        self._commit(step)
        for index in {_sliceOf(old, self.axis), _sliceOf(placed.prompt, self.axis)}:
            self._preview(step, placed.segmentId, index)

    def _onPromptRemoved(self, name: str, placed: PlacedPrompt) -> None:
        if self._prompts is None or name not in dict(self._journal.prompts(placed.segmentId)):
            return
        before = self._prompts.prompts()
        before[name] = placed
        step = self._newStep(before)
        self._retract(step, placed.segmentId, name)
        self._commit(step)
        self._preview(step, placed.segmentId, _sliceOf(placed.prompt, self.axis))

    def _retract(self, step: _Step, segmentId: str, name: str) -> None:
        names = [known for known, _ in self._journal.prompts(segmentId)]
        self._tell(step, Removed(segmentId, names.index(name)), name)

    def _addMask(self, step: _Step, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        self._written[segmentId, index] = np.packbits(mask)
        number = 1 + sum(len(self._journal.masks(name)) for name in self._journal.segments())
        self._tell(step, Prompted(segmentId, Mask(index, mask)), f"m{number}")

    def _takeCorrections(self, step: _Step, segmentId: str) -> None:
        """What the user painted over our masks is the user's: it becomes prompts, from which the rest follows."""
        for segment, index in sorted(self._written):
            if segment == segmentId and self._isTheirs(segmentId, index):
                mask = self._read(segmentId, index)
                if mask.any():
                    self._addMask(step, segmentId, index, mask)

    def _isTheirs(self, segmentId: str, index: int) -> bool:
        """Whether the slice looks different from what was written last; nothing was written: it has voxels."""
        mask = self._read(segmentId, index)
        last = self._written.get((segmentId, index))
        return bool(mask.any()) if last is None else not np.array_equal(np.packbits(mask), last)

    def _read(self, segmentId: str, index: int) -> NDArray[np.bool_]:
        assert self._slices is not None
        return self._slices.readSlice(segmentId, self.axis, index)

    # -- masks -----------------------------------------------------------------------------------

    def _preview(self, step: _Step, segmentId: str, index: int) -> None:
        """Show a prompted slice's mask, or take away the mask of a slice that has no prompt any more."""
        prompted = any(_sliceOf(p, self.axis) == index for _, p in self._journal.prompts(segmentId))
        if not prompted:
            self._previews.pop((segmentId, index), None)
            if index not in self._journal.finished(segmentId) and not self._isTheirs(segmentId, index):
                self._write(step, segmentId, index, np.zeros_like(self._read(segmentId, index)), None)
            return
        asked = self._previews.get((segmentId, index))
        if asked is not None:
            # The answer to the earlier question is out of date; one more will be asked when it comes.
            asked.step, asked.again = step, True
            return
        self._previews[segmentId, index] = _Preview(step)
        self._ask(segmentId, index)

    def _ask(self, segmentId: str, index: int) -> None:
        def answered(reply: Any) -> None:
            preview = self._previews.get((segmentId, index))
            if preview is None:
                return
            if preview.again:
                preview.again = False
                self._ask(segmentId, index)
                return
            del self._previews[segmentId, index]
            if isinstance(reply, m.Failure):
                self._fail(reply.text)
            elif isinstance(reply, m.MaskAnswer) and preview.step.inForce:
                self._deaths = 0
                self._write(preview.step, segmentId, index, m.as_mask(reply.mask), None)
                self._say("Ready")
            self.stateChanged.emit()

        self._say("Outlining …")
        self._send(m.Predict, answered, segment=segmentId, slice_index=index)

    def _write(self, step: _Step, segmentId: str, index: int, mask: NDArray[np.bool_], score: float | None) -> None:
        """Make the slice this mask, unless it is the user's or the segment is gone."""
        assert self._slices is not None
        if self._segmentation.GetSegmentation().GetSegment(segmentId) is None:
            return
        if self._isTheirs(segmentId, index):
            return
        axis = self.axis
        changes = self._slices.writeSlice(segmentId, axis, index, mask)
        step.changes += changes
        # With masking settings the slice is not always what was asked for.
        for change in changes:
            self._remember(change)
        self._written[segmentId, index] = np.packbits(self._slices.readSlice(segmentId, axis, index))
        self.maskWritten.emit(segmentId, axis, index, score)

    def _remember(self, change: SliceChange) -> None:
        """Other segments' slices that changed with ours are no corrections of the user's."""
        position = 2 * "ijk".index(self.axis)
        for index in range(change.extent[position], change.extent[position + 1] + 1):
            if (change.segmentId, index) in self._written:
                self._written[change.segmentId, index] = np.packbits(self._read(change.segmentId, index))

    # -- propagation -----------------------------------------------------------------------------

    def _onCounted(self, reply: Any) -> None:
        if self._run is not None and isinstance(reply, m.Done):
            self._run.total = int(reply.value or 0)

    def _onUpdate(self, reply: Any) -> None:
        run = self._run
        if run is None:
            return
        if isinstance(reply, m.Update):
            self._deaths = 0
            run.received += 1
            self._showPrepared(run, reply.prepared)
            self._finish(run, reply.segment, reply.slice_index)
            if run.step.inForce:
                self._write(run.step, reply.segment, reply.slice_index, m.as_mask(reply.mask), reply.score)
            self._tellOnly(m.Grant, of=reply.id, credit=1, received=run.received)
            self._report(run)
            return
        if isinstance(reply, m.Progress):
            return
        self._run = None
        self._throttleSurface(False)
        if isinstance(reply, m.Failure):
            self._fail(reply.text)
            self._resync()
        elif isinstance(reply, m.Propagated):
            self._showPrepared(run, reply.prepared)
            seconds = time.monotonic() - run.started
            done = f"{run.received} slices in {seconds:.1f} s"
            self._say(f"Ready: {done}" if reply.complete else f"Stopped after {done}")
        self._save()
        self.stateChanged.emit()

    def _showPrepared(self, run: _Run, prepared: Iterable[Any]) -> None:
        """Results on prompted slices that the propagation does not pass."""
        for one in prepared:
            if run.step.inForce:
                self._write(run.step, one.segment, one.slice_index, m.as_mask(one.mask), one.score)

    def _finish(self, run: _Run, segmentId: str, index: int) -> None:
        entry = run.remark.entry
        assert isinstance(entry, Propagated)
        run.remark.entry = replace(entry, finished=(*entry.finished, (segmentId, index)))

    def _report(self, run: _Run) -> None:
        rate = run.received / max(time.monotonic() - run.started, 1e-3)
        left = max(run.total - run.received, 0)
        self.progressChanged.emit(run.received, run.total, rate, left / rate)

    def _throttleSurface(self, begin: bool) -> None:
        """The surface is made again at the end, not for each slice."""
        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        if begin:
            self._surface = self._segmentation.GetSegmentation().ContainsRepresentation(name)
            if self._surface:
                self._segmentation.RemoveClosedSurfaceRepresentation()
        elif self._surface:
            self._segmentation.CreateClosedSurfaceRepresentation()

    # -- steps and journal -----------------------------------------------------------------------

    def _newStep(self, before: dict[str, PlacedPrompt] | None = None) -> _Step:
        assert self._prompts is not None
        if self._client is None or self._client.state in (STOPPED, DEAD):
            # Before the step is in the journal, which a new worker is given.
            self.connectWorker()
        return _Step(self._prompts.prompts() if before is None else before, worker=self._workers)

    def _tell(self, step: _Step, entry: Entry, promptId: str = "") -> None:
        """Note it in the journal, and tell the worker."""
        remark = self._journal.add(entry, promptId)
        step.remarks.append(remark)
        self._replay(remark)

    def _commit(self, step: _Step) -> None:
        assert self._prompts is not None
        step.promptsAfter = self._prompts.prompts()
        self._redo.clear()
        self._undo.append(step)
        del self._undo[: -self.parameters.undoStates]
        self._save()
        self.stateChanged.emit()

    def _afterUndo(self, text: str) -> None:
        self._save()
        self._say(text)
        self.stateChanged.emit()

    def _save(self) -> None:
        writeParameters(self._node, replace(self.parameters, journal=self._journal.toText()))

    def _ensureSession(self, axis: str) -> None:
        """Begin a session along this axis, unless one with prompts is under way."""
        if not self.axis:
            self._begin(axis)
        elif not self._journal.segments() and (axis != self.axis or not self.parameters.sessionWindow):
            self._journal = SessionJournal()
            self._undo, self._redo = [], []
            self._written = {}
            self._dropQuestions()
            self._begin(axis)

    def _begin(self, axis: str) -> None:
        """The first prompt decides the axis, and the window that the network sees."""
        volume = self._engineVolume()
        parameters = self.parameters
        window: Any = None
        if parameters.window in CT_PRESETS:
            window = parameters.window
        elif parameters.window == "view" and self._volume.IsA("vtkMRMLScalarVolumeNode"):
            display = self._volume.GetScalarVolumeDisplayNode()
            if display is not None and display.GetWindow() > 0:
                window = (display.GetLevel(), display.GetWindow())
        writeParameters(self._node, replace(parameters, axis=axis, sessionWindow=tuple(resolve_window(window, volume))))

    def _reopenJournal(self) -> None:
        """Go on with what the scene holds, if it belongs to this segmentation."""
        parameters = self.parameters
        try:
            self._journal = SessionJournal.fromText(parameters.journal)
        except ValueError as error:
            self.problem.emit(str(error))
            self._journal = SessionJournal()
        segmentation = self._segmentation.GetSegmentation()
        known = all(segmentation.GetSegment(name) is not None for name in self._journal.segments())
        if not self._journal.remarks or not known or not parameters.sessionWindow:
            self._journal = SessionJournal()
            writeParameters(self._node, replace(parameters, axis="", sessionWindow=(), journal=""))
            return
        for name in self._journal.segments():
            prompted = {_sliceOf(prompt, self.axis) for _, prompt in self._journal.prompts(name)}
            for index in prompted | self._journal.finished(name):
                self._written[name, index] = np.packbits(self._read(name, index))

    # -- the worker ------------------------------------------------------------------------------

    def connectWorker(self) -> None:
        """Start the worker if there is none, and give it model, volume and journal."""
        if self._volume is None:
            return
        if self._client is None:
            self._client = self._makeClient()
            self._client.noticed.connect(self.problem.emit)
            self._client.died.connect(self._onDied)
        if self._client.state in (STOPPED, DEAD):
            self._workers += 1
            self._say("Starting …")
            self._client.start()
            parameters = self.parameters
            fields = self._modelFields or {"name": parameters.model}
            self._client.ask(m.LoadModel, self._onModel, device=parameters.device, **fields)
        self._resync()

    def _resync(self) -> None:
        """Give the worker the volume and everything in the journal anew."""
        if self._client is None or self._volume is None:
            return
        self._dropQuestions()
        spacing, origin, direction = self._geometry.lps()  # type: ignore[union-attr]
        array = np.ascontiguousarray(slicer.util.arrayFromVolume(self._volume))
        self._dropFile()
        with tempfile.NamedTemporaryFile(
            dir=slicer.app.temporaryPath, prefix="biosam2-", suffix=".npy", delete=False
        ) as file:
            np.save(file, array)
        self._file = Path(file.name)
        self._client.ask(
            m.OpenVolume, self._onOpened, path=file.name, spacing=spacing, origin=origin, direction=direction
        )
        if self._journal.remarks:
            for remark in list(self._journal.remarks):
                self._replay(remark)

    def _send(self, kind: type, handler: Callable[[Any], None] | None = None, **fields: Any) -> None:
        """Ask the worker, which is given a session first."""
        if self._client is None:
            return
        if self._repeating:
            self._held.append((kind, handler, fields))
            return
        if not self._created:
            parameters = self.parameters
            self._created = True
            self._client.ask(
                m.Create,
                self._onDone,
                axis=parameters.axis,
                window=parameters.sessionWindow,
                crop="auto" if parameters.crop else None,
            )
        self._client.ask(kind, handler or self._onDone, **fields)

    def _onRepeated(self, reply: Any) -> None:
        """A propagation was done again: on with what waited, up to the next one."""
        if not isinstance(reply, m.Answer):
            return
        self._onDone(reply)
        self._repeating = False
        held, self._held = self._held, []
        for number, (kind, handler, fields) in enumerate(held):
            self._send(kind, handler, **fields)
            if kind is m.Propagate and "limit" in fields:
                self._repeating = True
                self._held = held[number + 1 :]
                return

    def _tellOnly(self, kind: type, **fields: Any) -> None:
        """Tell the worker something that it does not answer."""
        if self._client is not None:
            self._client.ask(kind, **fields)

    def _replay(self, remark: Remark) -> None:
        """Tell the worker what an entry says; a propagation's masks are there already and are not sent."""
        entry = remark.entry
        if isinstance(entry, Prompted):
            self._send(
                m.AddPrompt,
                lambda reply: self._onPromptAnswer(remark, reply),
                segment=entry.segment,
                prompt=m.send_prompt(entry.prompt),
            )
        elif isinstance(entry, Removed):
            self._send(m.RemovePrompt, segment=entry.segment, position=entry.position)
        elif isinstance(entry, Cleared):
            self._send(m.Clear, segment=entry.segment)
        elif isinstance(entry, Propagated):
            count = len(entry.finished)
            self._send(
                m.Propagate,
                self._onRepeated,
                segments=list(entry.segments),
                direction=entry.direction,
                first=entry.first,
                last=entry.last,
                skip=count,
                limit=count,
            )
            self._repeating = True

    def _onPromptAnswer(self, remark: Remark, reply: Any) -> None:
        """A prompt that the session refuses is taken away again."""
        if not isinstance(reply, m.Failure):
            return
        self._fail(reply.text)
        self._journal.drop(remark)
        for step in [step for step in self._undo if remark in step.remarks]:
            step.remarks.remove(remark)
        if self._prompts is not None and remark.promptId:
            self._prompts.remove(remark.promptId)
        self._save()

    def _onDone(self, reply: Any) -> None:
        if isinstance(reply, m.Failure):
            self._fail(reply.text)

    def _onModel(self, reply: Any) -> None:
        if isinstance(reply, m.Progress):
            share = "" if reply.fraction is None else f" {100 * reply.fraction:.0f} %"
            self._say(f"{reply.stage.capitalize()}{share} …")
        elif isinstance(reply, m.ModelLoaded):
            where = "on CPU" if reply.device == "cpu" else f"on {reply.device}"
            why = f" ({reply.device_reason})" if reply.device_reason else ""
            self._say(f"Ready: {reply.name} {where}{why}")
            self.stateChanged.emit()
        elif isinstance(reply, m.Failure):
            self._fail(reply.text)

    def _onOpened(self, reply: Any) -> None:
        self._dropFile()
        self._onDone(reply)

    def _onDied(self, why: str) -> None:
        """One notice, and on with the work: a new worker gets the journal."""
        waiting = list(self._previews)
        self._dropQuestions()
        run, self._run = self._run, None
        if run is not None:
            self._throttleSurface(False)
        self._deaths += 1
        if self._volume is None:
            return
        if self._deaths > _RESTARTS:
            self._fail(f"{why} It was started {_RESTARTS} times; choose another model or device to try again.")
        else:
            self.problem.emit(f"{why} It is started again; nothing is lost.")
            self.connectWorker()
            step = self._undo[-1] if self._undo else None
            for segmentId, index in waiting:
                if step is not None:
                    self._preview(step, segmentId, index)
        self._save()
        self.stateChanged.emit()

    def _restart(self) -> None:
        assert self._client is not None
        self._client.stop()
        self._dropQuestions()
        self._run = None
        self._deaths = 0
        self.connectWorker()

    def _fail(self, text: str) -> None:
        self._say(text)
        self.problem.emit(text)

    def _say(self, text: str) -> None:
        if text != self._status:
            self._status = text
            self.statusChanged.emit(text)

    # -- the scene -------------------------------------------------------------------------------

    def _observe(self, node: Any, event: Any, method: Any) -> None:
        self._tags.append((node, node.AddObserver(event, method)))

    def _onVolumeReplaced(self, *_event: Any) -> None:
        """Other voxels in the same node: the worker is given them, and the prompts again."""
        if self._volume is None or self._volume.GetImageData() is None:
            return
        if VolumeGeometry(self._volume).shape != self._geometry.shape:  # type: ignore[union-attr]
            volume, segmentation = self._volume, self._segmentation
            self._journal = SessionJournal()
            self._save()
            self._forget()
            self.setInput(volume, segmentation)
            return
        self._resync()

    def _onTransformed(self, *_event: Any) -> None:
        self._segmentation.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
        assert self._prompts is not None
        self._prompts.followTransform()
        self._geometry = VolumeGeometry(self._volume)

    def _onSegmentRemoved(self, *_event: Any) -> None:
        segmentation = self._segmentation.GetSegmentation()
        assert self._prompts is not None
        gone = [name for name in self._journal.segments() if segmentation.GetSegment(name) is None]
        for name in gone:
            self._prompts.removeSegment(name)
            step = _Step({}, worker=self._workers)
            self._tell(step, Cleared(name))
            self._previews = {key: value for key, value in self._previews.items() if key[0] != name}
            self._written = {key: value for key, value in self._written.items() if key[0] != name}
        if gone:
            # Steps that touch a segment which is gone cannot be taken back as a whole.
            self._undo.clear()
            self._redo.clear()
            self._save()
            self.stateChanged.emit()

    def _forget(self) -> None:
        """Let go of the input; the worker stays, for the next one."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        if self._prompts is not None:
            self._prompts.cleanup()
        if self._run is not None and self._client is not None:
            self._client.ask(m.Cancel)
        self._prompts = self._slices = self._geometry = None
        self._volume = self._segmentation = None
        self._journal = SessionJournal()
        self._undo, self._redo = [], []
        self._written = {}
        self._run = None
        self._dropQuestions()
        self._dropFile()

    def _dropQuestions(self) -> None:
        """What was asked of an earlier session is of no interest any more."""
        self._created = self._repeating = False
        self._held = []
        self._previews = {}

    def _dropFile(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None

    def _engineVolume(self) -> Volume:
        spacing, origin, direction = self._geometry.lps()  # type: ignore[union-attr]
        array = slicer.util.arrayFromVolume(self._volume)
        try:
            return Volume(array, spacing, origin, np.array(direction))  # type: ignore[arg-type]
        except BioSAM2Error as error:
            self._fail(str(error))
            raise


def _sliceOf(prompt: Prompt, axis: str) -> int:
    return prompt.slice_index if isinstance(prompt, Mask) else sliceOf(prompt, axis)
