"""A list of cases to work through, which several people may share on a network folder.

`making` finds the cases, `worklist` reads and changes the list and opens a case, `claims` says who has a case open,
`template` says which segments each case gets, `work_timer` counts the time, `exporting` writes what was approved in
another format. The table itself is `biosam2.datasets.work_table`: a worklist is also a dataset, whose splits are the
states. Nothing here needs torch or Slicer.
"""

from ..datasets.work_table import STATES, State, WorkCase
from .claims import Claim
from .making import find_work, make_worklist, template_of
from .template import Template, TemplateSegment
from .work_timer import WorkTimer
from .worklist import CaseFiles, OpenCase, Worklist

__all__ = [
    "STATES",
    "CaseFiles",
    "Claim",
    "OpenCase",
    "State",
    "Template",
    "TemplateSegment",
    "WorkCase",
    "WorkTimer",
    "Worklist",
    "find_work",
    "make_worklist",
    "template_of",
]
