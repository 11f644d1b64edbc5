"""What leaves the panel: files, records, numbers."""
