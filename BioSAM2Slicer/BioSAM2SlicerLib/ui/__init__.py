"""What is seen and clicked: the panel, one class a section."""
