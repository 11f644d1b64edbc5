"""The Slicer side of BioSAM2Slicer: one class a file, collaborators handed in, reports through signals.

Widgets know logics, logics know the scene and the worker; nobody below knows who is above.
"""
