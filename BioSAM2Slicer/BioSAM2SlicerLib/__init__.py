"""The Slicer side of BioSAM2Slicer: one class a file, collaborators handed in, reports through signals.

`ui` knows `session` and `export`, these know `scene` and `worker`; what is below does not know what is above.
"""
