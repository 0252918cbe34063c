"""Kinds of files, one each: bytes to the columns of a table and the line on which each row begins."""
