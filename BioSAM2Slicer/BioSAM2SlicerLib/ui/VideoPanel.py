"""The section for videos: a sequence is opened as one, and its masks are shown on the sequence's own images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from biosam2.errors import BioSAM2Error
from biosam2.io.areas import areas_of
from slicer.i18n import tr as _

from ..export.AreaPlot import plotAreas
from ..export.Exporter import Segments, namesOf
from ..scene.SequenceVideo import browserOf, frameNodeOf, openVideo, sequenceOf, sliceOfFrames, videoOf
from ..scene.ViewPlanes import shownSlice, showVolume, sliceNodes
from ..scene.VolumeGeometry import VolumeGeometry
from ..session.MaskSequence import MaskSequence
from ..session.PanelSession import PanelSession
from ..Signal import Signal
from .Controls import loadSection


class VideoPanel:
    """Opens sequences as videos; the views follow the sequence browser, and its masks follow the session.

    Signals:
        leftVideo(): the browser's own images are shown now, on which nothing can be prompted or painted.

    Args:
        session: what is worked on.
        getVolume: gives the chosen volume.
        choose: makes a volume the input.
        promptsShown: says whether prompts are to be seen.
        say, refuse: tell the user what was done, and why something was not.
    """

    def __init__(
        self,
        session: PanelSession,
        getVolume: Callable[[], Any],
        choose: Callable[[Any], None],
        promptsShown: Callable[[], bool],
        say: Callable[[str], None],
        refuse: Callable[[str], None],
    ) -> None:
        self.leftVideo = Signal()
        self._session = session
        self._getVolume = getVolume
        self._choose = choose
        self._promptsShown = promptsShown
        self._say, self._refuse = say, refuse
        self.masks = MaskSequence(session)
        self.masks.refused.connect(refuse)
        self.masks.foundShown.connect(lambda: self.showMasks(False))
        session.leaving.connect(self.backToVideo)
        self.widget, self._ui = loadSection("Video")
        self._browser: Any = None
        self._tag = 0
        self._item = -1
        kinds = slicer.vtkMRMLScene
        self._sceneTag = slicer.mrmlScene.AddObserver(kinds.NodeRemovedEvent, self._onNodeRemoved)
        self._ui.openVideo.clicked.connect(lambda *_: self.openVideo())
        self._ui.showMasks.clicked.connect(lambda *_: self.showMasks(bool(self._ui.showMasks.checked)))
        self._ui.plotAreas.clicked.connect(lambda *_: self.plotAreas())
        self.refresh()

    def cleanup(self) -> None:
        """Follow the session and the browser no longer."""
        slicer.mrmlScene.RemoveObserver(self._sceneTag)
        self._follow(None)
        self._session.leaving.disconnect(self.backToVideo)
        self.masks.cleanup()

    def refresh(self) -> None:
        """Offer what can be done with the chosen volume."""
        volume = self._getVolume()
        browser = browserOf(volume)
        self._ui.openVideo.visible = sequenceOf(volume) is not None
        self._ui.showMasks.visible = browser is not None
        self._ui.showMasks.enabled = self.masks.shown is not None
        film = self._session.volumeNode is not None and self._session.parameters.film
        self._ui.plotAreas.visible = film
        self._ui.plotAreas.enabled = film and bool(namesOf(self._session.segmentationNode))
        self.widget.visible = bool(sequenceOf(volume) or browser or film)
        self._follow(browser)

    def openVideo(self) -> None:
        """Make the frames of the chosen volume's sequence the input."""
        frame = self._getVolume()
        several = frame is not None and VolumeGeometry(frame).count("k") > 1
        try:
            video = openVideo(frame, shownSlice(frame, "k") or 0 if several else 0)
        except BioSAM2Error as error:
            self._refuse(_("The sequence was not opened: {why}.").format(why=error))
            return
        self._choose(video)
        self._onBrowser()

    @property
    def masksShown(self) -> bool:
        """Whether views show the browser's own images, which lie where the video's first slice does."""
        return bool(self._ui.showMasks.checked)

    def showMasks(self, shown: bool) -> None:
        """Show the browser's own images with the masks, or the session's video again."""
        video = self._session.volumeNode
        frame = frameNodeOf(video) if shown else None
        if shown:
            self.masks.update()
        shown = frame is not None and self.masks.shown is not None
        self.masks.show(shown)
        self._ui.showMasks.checked = shown
        if shown:
            self.leftVideo.emit()
        if self._session.prompts is not None:
            # They lie on the video's slices, of which the browser's images take the first one's place.
            self._session.prompts.setVisible(not shown and self._promptsShown())
        showVolume(frame if shown else video)
        if shown:
            _jump(frame, sliceOfFrames(video))
        else:
            self._goToItem(video)

    def backToVideo(self) -> None:
        """Show the session's video, for what is prompted or painted there."""
        if self.masksShown:
            self.showMasks(False)

    def plotAreas(self) -> None:
        """Show the area of each segment over time, as a plot."""
        segmentation, volume = self._session.segmentationNode, self._session.volumeNode
        if self._session.running:
            self._refuse(_("A propagation is running; wait for it to end, or stop it."))
            return
        chart = plotAreas(segmentation, areas_of(Segments(segmentation, volume, videoOf(volume))))
        slicer.modules.plots.logic().ShowChartInLayout(chart)
        self._say(_("The plot “{name}” is in the scene, and its table.").format(name=chart.GetName()))

    # -- inside ---------------------------------------------------------------------------------

    def _follow(self, browser: Any) -> None:
        """Follow this browser and no other; None for none."""
        if browser is self._browser:
            return
        self.backToVideo()
        if self._browser is not None:
            self._browser.RemoveObserver(self._tag)
        self._browser = browser
        if browser is not None:
            self._tag = browser.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onBrowser)

    def _onBrowser(self, *_event: Any) -> None:
        """The browser plays, or another of its items was chosen: the views go to that frame."""
        browser = self._browser
        if browser is not None and browser.GetSelectedItemNumber() != self._item and not self.masksShown:
            self._goToItem(self._getVolume())

    def _goToItem(self, video: Any) -> None:
        """Show the frame that the browser shows."""
        if self._browser is not None:
            self._item = self._browser.GetSelectedItemNumber()
            _jump(video, self._item)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, _scene: Any, _event: Any, node: Any) -> None:
        if node is self._browser:
            self._follow(None)
            self.refresh()


def _jump(volumeNode: Any, k: int) -> None:
    """Show a slice k of a volume in all views along it."""
    geometry = VolumeGeometry(volumeNode)
    if not 0 <= k < geometry.count("k"):
        return
    _k, j, i = geometry.shape
    world = geometry.worldFromIjk(((i - 1) / 2, (j - 1) / 2, k))
    for node in sliceNodes():
        if geometry.axisOfView(node)[0] == "k":
            node.JumpSliceByOffsetting(*world)
