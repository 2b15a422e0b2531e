"""Files become records: one module a format, and the sources that read rows of text from them."""
