"""One module a dataset: the raw download in, an Index out."""
