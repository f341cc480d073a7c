"""Downloading: what a picture costs over the network alone, and from URL to shard, beside img2dataset and Ray Data."""
