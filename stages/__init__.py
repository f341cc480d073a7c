"""Typed maps over batches of records. Stages know no Ray and import heavy packages only when loaded."""
