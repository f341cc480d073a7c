"""Parts of networks that the papers add and that several families share."""
