"""What a run will need and how fast it can go at most, on devices that are not there.

The real training step is compiled by the TPU's own compiler, which works without a TPU; what the program does is then
counted, and held against the figures of the chip.
"""
