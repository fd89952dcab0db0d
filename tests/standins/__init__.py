"""Servers in the place of video providers: they refuse what the real ones refuse, and answer as those document it."""
