"""The network at work: encoding slices, memory and its attention, crops, devices. Needs torch; knows no session."""
