"""From a prompt as people write it to pictures in a folder."""
