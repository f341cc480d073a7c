"""What a run of any size will take, from one that was measured."""
