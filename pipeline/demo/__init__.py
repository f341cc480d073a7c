"""The demo's data: photographs out of installed packages, captioned, boxed, cut into rows and served on 127.0.0.1."""
