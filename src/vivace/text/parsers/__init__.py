"""What an answer's text says, read as it comes: reasoning, content, and calls of tools.

Each parser takes text in pieces and gives events; however the text was cut, the events together
say the same.
"""
