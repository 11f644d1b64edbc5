"""The network at work: encoding slices, memory and its attention, crops. Needs torch; knows no session."""
