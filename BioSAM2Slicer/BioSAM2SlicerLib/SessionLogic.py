"""The session: prompts from the scene go to the worker, masks from the worker go into the segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import qt
import slicer
from biosam2.errors import BioSAM2Error
from biosam2.frames import CT_PRESETS, resolve_window
from biosam2.session.entries import Cleared, Propagated
from biosam2.volume import Volume
from slicer.i18n import tr as _

from .EditSteps import EditSteps
from .Exporter import ModelUsed
from .History import Step
from .Parameters import Parameters, readParameters, writeParameters
from .Previews import Previews
from .PromptNodes import PromptNodes
from .PromptSteps import PromptSteps
from .Propagation import Propagation
from .SegmentSlices import SegmentSlices, fitSegmentationToVolume
from .SessionJournal import Remark, SessionJournal, sliceOf
from .SessionSteps import SessionSteps
from .SessionStore import putAway, takeUp
from .Signal import Signal
from .SliceLedger import SliceLedger
from .SurfaceThrottle import SurfaceThrottle
from .VolumeGeometry import VolumeGeometry, looksLikeFilm
from .WorkerClient import WorkerClient
from .WorkerSession import WorkerSession

_NOTHING_MARKED = _("Mark the structure first: click into it, or draw a box around it.")


class SessionLogic:
    """The session of one volume and one segmentation. Nothing in it waits for the worker.

    It puts the session's parts together: `SessionSteps` (what can be taken back), `PromptSteps` (prompts),
    `Previews` (masks of single slices), `Propagation`, `SliceLedger` (whose the slices are), and `WorkerSession`.

    Signals:
        statusChanged(str): one line on what is going on.
        stateChanged(): what can be done now has changed (running, undo, redo, input).
        progressChanged(done, total, slicesPerSecond, secondsLeft): of the propagation.
        maskWritten(segmentId, axis, index, score): a slice of a segment was written.
        problem(str): something that the user should read; one line.
        noticed(str): something that happened by itself; one line. `problem` tells it too.
        workingChanged(): `working` has changed.
        warned(str): something that the user should think about; nothing went wrong. One line.

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
        self.problem = Signal()
        self.warned = Signal()
        self._node = parameterNode
        self._editor = editorNode
        self._volume: Any = None
        self._segmentation: Any = None
        self._geometry: VolumeGeometry | None = None
        self._prompts: PromptNodes | None = None
        self._slices: SegmentSlices | None = None
        self._tags: list[tuple[Any, int]] = []
        self._status = ""
        self._replaced = False
        # The automatic window, and what it was found for.
        self._automatic: tuple[int, tuple[float, float]] = (-1, (0.0, 1.0))
        # The axis of the view that the user points at; the panel knows.
        self.axisOfPointer: Callable[[], str] = lambda: "k"

        self._journal = SessionJournal()
        self._worker = WorkerSession(makeClient, lambda: self.parameters, self._journal, modelFields)
        self._surface = SurfaceThrottle(lambda: self.running)
        self._ledger = SliceLedger(self._journal, lambda: self.axis, self._surface.beforeWrite)
        self._steps = SessionSteps(lambda: self._node, self._worker, self._journal, self._ledger)
        self._editSteps = EditSteps(self._steps, self._ledger)
        self._previews = Previews(self._worker, self._journal, self._ledger, lambda: self.axis)
        self._promptSteps = PromptSteps(
            self._steps,
            self._journal,
            self._ledger,
            self._previews,
            lambda: self.axis,
            lambda: self._ensureSession(self.axisOfPointer()),
        )
        self._propagation = Propagation(
            self._worker, self._journal, self._ledger, self.promptedSlices, self._stepOfWayBack
        )
        self.progressChanged = self._propagation.progressChanged
        self.modelsOffered = self._worker.offered
        self.noticed = self._worker.noticed
        self.workingChanged = self._worker.workingChanged
        self.maskWritten = self._ledger.written
        self._steps.changed.connect(self.stateChanged.emit)
        self._previews.changed.connect(self.stateChanged.emit)
        self._previews.warned.connect(self.warned.emit)
        self._propagation.warned.connect(self.warned.emit)
        self._promptSteps.refused.connect(self.problem.emit)
        self._propagation.arrived.connect(self._steps.save)
        self._propagation.ended.connect(self._onPropagated)
        self._worker.ready.connect(self.stateChanged.emit)
        self._worker.noticed.connect(self.problem.emit)
        self._worker.lost.connect(self._onWorkerLost)
        self._worker.forgotten.connect(self._previews.forget)
        self._worker.refused.connect(self._onPromptRefused)
        self._worker.resume = self._propagation.resume
        self._previews.asked.connect(self.workingChanged.emit)
        for said in (self._worker.said, self._propagation.said):
            said.connect(self._say)
        for failed in (self._worker.failed, self._previews.failed, self._propagation.failed):
            failed.connect(self._fail)

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
        return self._propagation.running

    @property
    def working(self) -> str:
        """What is waited for, in one line: the worker to be ready, or an outline; empty for nothing."""
        return self._worker.working or (_("Outlining …") if self._previews.waiting else "")

    @property
    def busy(self) -> bool:
        """Whether an answer of the worker is awaited."""
        return self.running or bool(self._previews.waiting) or self._worker.busy

    @property
    def canUndo(self) -> bool:
        return bool(self._steps.history.done)

    @property
    def canRedo(self) -> bool:
        return bool(self._steps.history.undone)

    @property
    def undoBytes(self) -> int:
        """Memory that the steps take which can be undone and redone."""
        return self._steps.history.nbytes

    @property
    def undoCount(self) -> int:
        """How many steps can be undone and redone."""
        return len(self._steps.history.done) + len(self._steps.history.undone)

    def window(self) -> tuple[float, float] | None:
        """(centre, width) in which the model sees the volume, or would if a session began now; None without one."""
        parameters = self.parameters
        if self._volume is None:
            return None
        if parameters.sessionWindow and self._journal.segments():
            return (parameters.sessionWindow[0], parameters.sessionWindow[1])
        return self._windowNow()

    def pixelSize(self, axis: str) -> tuple[float, float]:
        """Size of a pixel of a slice along rows and columns, in mm."""
        i, j, k = self._geometry.spacing  # type: ignore[union-attr]
        return {"k": (j, i), "j": (k, i), "i": (k, j)}[axis]

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
    def journal(self) -> SessionJournal:
        """What was said and done."""
        return self._journal

    @property
    def modelUsed(self) -> ModelUsed:
        """The network that draws, as far as a worker has told."""
        loaded = self._worker.model
        if loaded is None:
            return ModelUsed(self.parameters.model)
        return ModelUsed(loaded.name, loaded.sha256, loaded.device)

    @property
    def axis(self) -> str:
        """The session's axis; empty before the first prompt."""
        return self.parameters.axis

    def promptedSlices(self, segmentId: str) -> list[int]:
        """Slices with a prompt of this segment, ascending."""
        axis = self.axis
        return sorted({sliceOf(prompt, axis) for _name, prompt in self._journal.prompts(segmentId)}) if axis else []

    def correctedSlices(self, segmentId: str) -> set[int]:
        """Slices whose mask the user drew, or has changed since it was written."""
        self._ledger.look()
        return {*self._journal.masks(segmentId), *self._ledger.corrected(segmentId)}

    def usedSlices(self, segmentId: str) -> list[int]:
        """Slices along the session's axis on which the segment has voxels, ascending."""
        return self._ledger.usedSlices(segmentId) if self._segmentation is not None and self.axis else []

    def voxelStamp(self, segmentId: str) -> int:
        """A number that is another one when the segment's voxels have changed."""
        return self._slices.stamp(segmentId) if self._slices is not None else 0

    def lockedSlices(self, segmentId: str) -> set[int]:
        """Slices that the user locked."""
        return self._journal.locked(segmentId)

    # -- input -----------------------------------------------------------------------------------

    def setInput(self, volumeNode: Any, segmentationNode: Any) -> bool:
        """Work on this volume and segmentation; None for nothing.

        Returns:
            Whether it can be: a segmentation that holds voxels on another grid cannot.
        """
        if volumeNode is self._volume and segmentationNode is self._segmentation:
            return True
        before, prompts = self._segmentation, self._prompts
        self._forget()
        if before is not None and before is not segmentationNode and before.GetScene() is not None:
            # Its masks and prompts would be taken for the next one's.
            before.SetDisplayVisibility(False)
            prompts.setVisible(False)  # type: ignore[union-attr]
        if volumeNode is None or segmentationNode is None or volumeNode.GetImageData() is None:
            self.stateChanged.emit()
            return False
        if not fitSegmentationToVolume(segmentationNode, volumeNode):
            self.stateChanged.emit()
            return False
        self._volume, self._segmentation = volumeNode, segmentationNode
        self._geometry = VolumeGeometry(volumeNode)
        self._slices = SegmentSlices(segmentationNode, self._editor, volumeNode)
        self._surface.open(segmentationNode)
        self._ledger.open(segmentationNode, self._slices)
        self._prompts = PromptNodes(segmentationNode, volumeNode)
        self._prompts.refused.connect(self.problem.emit)
        segmentationNode.SetDisplayVisibility(True)
        self._prompts.setVisible(True)
        self._promptSteps.open(self._prompts)
        self._steps.open(self._prompts)
        self._reopenJournal()
        if not self._journal.remarks:
            writeParameters(self._node, replace(self.parameters, film=looksLikeFilm(volumeNode)))
        self._observe(volumeNode, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onVolumeReplaced)
        self._observe(volumeNode, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._onTransformed)
        self._observe(segmentationNode.GetSegmentation(), slicer.vtkSegmentation.SegmentRemoved, self._onSegmentRemoved)
        self._worker.open(volumeNode)
        self.stateChanged.emit()
        return True

    def setParameters(self, **changes: Any) -> None:
        """Change settings. Model and device take effect at once; the window and crop, with the next session."""
        before = self.parameters
        after = replace(before, **changes)
        if after == before:
            return
        writeParameters(self._node, after)
        if after.undoStates != before.undoStates:
            self._steps.history.keep(after.undoStates)
            self.stateChanged.emit()
        if (before.model, before.device) != (after.model, after.device) and self._worker.client is not None:
            self._propagation.abandon()
            self._worker.restart()
        elif (before.window, before.crop) != (after.window, after.crop):
            if not self._journal.segments():
                writeParameters(self._node, replace(after, sessionWindow=()))
            elif before.window != after.window:
                self._say(_("The new window holds from the next session on; reset all segments to begin one."))

    def setNodes(self, parameterNode: Any, editorNode: Any) -> None:
        """Keep settings and journal in other nodes from now on, after the scene was closed; without an input."""
        self.setInput(None, None)
        self._node, self._editor = parameterNode, editorNode

    def save(self) -> None:
        """Keep the journal in the scene as it is now; Slicer does not say when it saves a scene."""
        self._steps.save()

    def cleanup(self) -> None:
        """Let go of scene and worker."""
        self._forget()
        self._worker.stop()

    # -- what the user does ----------------------------------------------------------------------

    def addBox(self, segmentId: str, minIjk: tuple[float, ...], maxIjk: tuple[float, ...], axis: str) -> None:
        """A box was drawn, flat on an axis."""
        if self._prompts is None:
            return
        self._ensureSession(axis)
        if self.axis != axis:
            self.problem.emit(
                _(
                    "This session goes along the {axis} axis: boxes belong on its slices; in this view use points."
                ).format(axis=self.axis)
            )
            return
        self._promptSteps.addBox(segmentId, minIjk, maxIjk)

    def addMask(self, segmentId: str, index: int, axis: str = "") -> bool:
        """What is painted on a slice becomes a prompt; False where nothing is."""
        if self._prompts is None:
            return False
        self._ensureSession(axis or self.axisOfPointer())
        if not self._promptSteps.addMask(segmentId, index):
            self.problem.emit(_("Nothing is painted on this slice; paint the structure first."))
            return False
        return True

    def startFrom(self, segmentId: str, axis: str = "") -> bool:
        """Let the session go on from what a segment holds: clicks refine it, and a propagation may replace it.

        Where nothing is marked yet, the slice with the largest section becomes a mask prompt, to propagate from.

        Args:
            segmentId: the segment.
            axis: of a session that begins with this; by default that of the view which the user points at.

        Returns:
            False for an empty segment.
        """
        if self._prompts is None:
            return False
        self._ensureSession(axis or self.axisOfPointer())
        if not self._promptSteps.startFrom(segmentId):
            self.problem.emit(_("This segment is empty; paint it, or import one."))
            return False
        return True

    def lock(self, segmentId: str, index: int, locked: bool = True) -> bool:
        """Keep a slice as it is now, whatever is propagated later, or let go of it; False if nothing is marked yet."""
        if self._prompts is None:
            return False
        if not self._promptSteps.lock(segmentId, index, locked):
            self.problem.emit(_NOTHING_MARKED)
            return False
        return True

    def propagateFrom(self, segmentId: str, index: int, direction: str = "both") -> bool:
        """Carry a segment on from a slice that was corrected, away from where the segment was marked first.

        Args:
            segmentId: the segment.
            index: the slice.
            direction: where the slice is the only one that is marked.
        """
        self._ledger.look()
        if self._prompts is None or self.running:
            return False
        marked = {*self.promptedSlices(segmentId), *self._ledger.corrected(segmentId)} - {index}
        if not marked:
            return self.propagate([segmentId], direction)
        # Slices above the lowest marked one are reached upwards only, as SAM 2 does.
        if index > min(marked):
            return self.propagate([segmentId], "forward", first=index)
        return self.propagate([segmentId], "backward", last=index)

    def propagate(
        self,
        segmentIds: Iterable[str] | None = None,
        direction: str = "both",
        first: int | None = None,
        last: int | None = None,
        untilGone: bool = False,
    ) -> bool:
        """Carry segments through the volume; False if there is nothing to carry, or something is being carried.

        Args:
            segmentIds: by default all that carry prompts.
            direction: ``both``, ``forward`` (rising slice index) or ``backward``.
            first, last: the range, inclusive; None for no bound.
            untilGone: whether to end where the objects do, in each direction.
        """
        if self._prompts is None or self.running:
            return False
        if VolumeGeometry(self._volume).count(self.axis or "k") == 1:
            self.problem.emit(_("This is a single picture: its outline is there, and there is nothing to carry it to."))
            return False
        prompted = self._journal.segments()
        names = [name for name in prompted if segmentIds is None or name in set(segmentIds)]
        if not names:
            self.problem.emit(_NOTHING_MARKED)
            return False
        step = self._steps.new()
        for name in names:
            self._promptSteps.takeCorrections(step, name)
        self._steps.commit(step)
        self._propagation.start(step, Propagated(tuple(names), direction, first, last), untilGone)
        self.stateChanged.emit()
        return True

    def stop(self) -> None:
        """Stop the propagation after the slice that it is at; finished slices stay."""
        self._propagation.stop()

    def clear(self, segmentId: str) -> None:
        """Drop a segment's prompts, and the masks that this session wrote; what the user painted stays."""
        if self._prompts is None or not self.axis:
            return
        step = self._steps.new()
        kept = self._journal.kept(segmentId, self.axis)
        for name, placed in self._prompts.prompts().items():
            if placed.segmentId == segmentId:
                self._prompts.remove(name)
        for index in self._ledger.ours(segmentId):
            if index not in kept:
                self._ledger.write(step, segmentId, index, None)
        self._ledger.release(step, segmentId, kept)
        if self._journal.prompts(segmentId) or self._journal.finished(segmentId):
            self._steps.tell(step, Cleared(segmentId))
        self._previews.forget(segmentId)
        self._propagation.forget(segmentId)
        self._steps.commit(step)

    def undo(self) -> bool:
        """Take back the last step: prompts, journal and voxels together; False if there is none."""
        done = self._steps.undo()
        if done:
            self._say(_("Undone."))
        return done

    def redo(self) -> bool:
        """Put the step that was undone last in force again; False if there is none."""
        done = self._steps.redo()
        if done:
            self._say(_("Done again."))
        return done

    # -- the session -----------------------------------------------------------------------------

    def _stepOfWayBack(self, step: Step) -> Step:
        """Where the user did something during the way there, taking it back must leave the way there alone."""
        done = self._steps.history.done
        if done and done[-1] is step:
            return step
        step = self._steps.new()
        self._steps.commit(step)
        return step

    def _ensureSession(self, axis: str) -> None:
        """Begin a session along this axis, unless one with prompts is under way.

        A single picture and a film have one axis only.
        """
        single = [a for a in "kji" if VolumeGeometry(self._volume).count(a) == 1]
        axis = "k" if self.parameters.film else single[0] if single else axis
        if not self.axis:
            self._begin(axis)
        elif not self._journal.segments() and (axis != self.axis or not self.parameters.sessionWindow):
            self._journal.clear()
            self._steps.history.clear()
            self._ledger.forget()
            self._worker.forget()
            self._begin(axis)

    def _begin(self, axis: str) -> None:
        """The first prompt decides the axis, and the window that the network sees."""
        writeParameters(self._node, replace(self.parameters, axis=axis, sessionWindow=self._windowNow()))

    def _windowNow(self) -> tuple[float, float]:
        """What the settings say, for a session that begins now."""
        chosen = self.parameters.window
        if chosen in CT_PRESETS:
            return CT_PRESETS[chosen]
        if chosen == "view" and self._volume.IsA("vtkMRMLScalarVolumeNode"):
            display = self._volume.GetScalarVolumeDisplayNode()
            if display is not None and display.GetWindow() > 0:
                return (display.GetLevel(), display.GetWindow())
        key = self._volume.GetImageData().GetMTime()
        if self._automatic[0] != key:
            # Percentiles of all voxels, which takes a moment.
            self._automatic = (key, resolve_window(None, self._engineVolume()))
        return self._automatic[1]

    def _engineVolume(self) -> Volume:
        spacing, origin, direction = self._geometry.lps()  # type: ignore[union-attr]
        array = slicer.util.arrayFromVolume(self._volume)
        try:
            return Volume(array, spacing, origin, np.array(direction))  # type: ignore[arg-type]
        except BioSAM2Error as error:
            self._fail(str(error))
            raise

    def _reopenJournal(self) -> None:
        """Go on with what the scene holds, if it belongs to this segmentation."""
        try:
            takeUp(self._node, self._segmentation)
            self._journal.load(self.parameters.journal)
        except ValueError as error:
            self.problem.emit(str(error))
        parameters = self.parameters
        segmentation = self._segmentation.GetSegmentation()
        known = all(segmentation.GetSegment(name) is not None for name in self._journal.segments())
        if not self._journal.remarks or not known or not parameters.sessionWindow:
            self._journal.clear()
            writeParameters(self._node, replace(parameters, axis="", sessionWindow=(), journal="", corrected=""))
            return
        for name in self._journal.segments():
            for index in {*self.promptedSlices(name), *self._journal.finished(name)}:
                self._ledger.adopt(name, index)
        self._ledger.load(parameters.corrected)

    # -- the worker ------------------------------------------------------------------------------

    def _onPropagated(self, broken: bool) -> None:
        if broken:
            self._worker.resync()
        self._steps.save()
        self.stateChanged.emit()

    def _onPromptRefused(self, remark: Remark, why: str) -> None:
        """A prompt that the session refuses is taken away again."""
        self._fail(why)
        self._journal.drop(remark)
        for step in self._steps.history.done:
            if remark in step.remarks:
                step.remarks.remove(remark)
        if self._prompts is not None and remark.promptId:
            self._prompts.remove(remark.promptId)
        self._steps.save()

    def _onWorkerLost(self, why: str, again: bool) -> None:
        """On with the work: a new worker gets the journal, and what is left of a propagation to do."""
        waiting = self._previews.waiting
        self._worker.forget()
        wanted = self._propagation.wanted
        goesOn = again and self._propagation.goesOn()
        if not goesOn:
            self._propagation.abandon()
        if wanted and not goesOn:
            again = False
            text = _("{why} The propagation is broken off: workers ended at this slice before. What is finished stays.")
            self._fail(text.format(why=why))
        elif goesOn:
            text = _("{why} It is started again, nothing is lost, and the propagation goes on where it was.")
            self._worker.noticed.emit(text.format(why=why))
        elif again:
            self._worker.noticed.emit(_("{why} It is started again; nothing is lost.").format(why=why))
        else:
            text = _("{why} It was started several times; choose another model or device to try again.")
            self._fail(text.format(why=why))
        if again:
            self._worker.connect()
            self._askAgain(waiting)
        self._steps.save()
        self.stateChanged.emit()

    def _askAgain(self, waiting: Iterable[tuple[str, int]]) -> None:
        """Ask a new session what an old one did not answer."""
        done = self._steps.history.done
        for segmentId, index in waiting if done else []:
            self._previews.show(done[-1], segmentId, index)

    def _fail(self, text: str) -> None:
        self._say(text)
        self.problem.emit(text)

    def _say(self, text: str) -> None:
        self._status = text
        self.statusChanged.emit(text)

    # -- the scene -------------------------------------------------------------------------------

    def _observe(self, node: Any, event: Any, method: Any) -> None:
        self._tags.append((node, node.AddObserver(event, method)))

    def _onVolumeReplaced(self, *_event: Any) -> None:
        """Other voxels in the same node; looked at when all of them are there, size and values."""
        if not self._replaced:
            self._replaced = True
            qt.QTimer.singleShot(0, self._takeReplaced)

    def _takeReplaced(self) -> None:
        """The worker is given the voxels, and the prompts again."""
        self._replaced = False
        if self._volume is None or self._volume.GetImageData() is None:
            return
        if VolumeGeometry(self._volume).shape != self._geometry.shape:  # type: ignore[union-attr]
            volume, segmentation = self._volume, self._segmentation
            assert self._prompts is not None
            self._prompts.restore({})
            self._journal.clear()
            self._forget()
            self.setInput(volume, segmentation)
            return
        waiting = self._previews.waiting
        self._propagation.abandon()
        self._worker.resync()
        self._askAgain(waiting)
        self.stateChanged.emit()

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
            self._steps.tell(Step({}), Cleared(name))
            self._previews.forget(name)
            self._propagation.forget(name)
            self._ledger.forget(name)
        if gone:
            # Steps that touch a segment which is gone cannot be taken back as a whole.
            self._steps.history.clear()
            self._steps.save()
            self.stateChanged.emit()

    def _forget(self) -> None:
        """Let go of the input; the worker stays, for the next one."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        if self._prompts is not None:
            self._prompts.cleanup()
        self._propagation.abandon()
        self._propagation.forget()
        self._worker.close()
        if self._segmentation is not None:
            self._steps.save()
            putAway(self._node, self._segmentation)
        self._prompts = self._slices = self._geometry = None
        self._volume = self._segmentation = None
        self._promptSteps.open(None)
        self._steps.open(None)
        self._journal.clear()
        self._ledger.close()
        self._surface.close()
