"""A drawn world of coloured shapes and small things, whose captions, boxes and masks are known exactly."""
