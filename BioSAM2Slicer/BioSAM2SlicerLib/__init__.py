"""The Slicer side of BioSAM2Slicer: one class a file, collaborators handed in, reports through signals.

Widgets know logics, logics know the scene and the worker; what is below does not know what is above.
"""
