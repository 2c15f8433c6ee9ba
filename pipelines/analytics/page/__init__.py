"""A web page that shows what analytics finds, as it comes.

`board` keeps what is shown (pure), `reading` fills it from the topics, `server` serves it. The
page itself is in `static/`: no library, nothing from anywhere else, nothing to build.
"""
