"""A page to look at: one model, its dials as sliders, in a browser on the same machine.

    gate.py      who is answered at all
    browser.py   its address for a browser, which nobody else sees
    server.py    what can be asked: the routes, and what is refused
    lanes.py     one thing at a time: work in threads, told line by line, given up when nobody waits
    shelf.py     the pictures that are open, and what was made of them
    work.py      what is computed: previews, files, searches, comparisons, curves
    styles.py    pictures in the styles of `vrcodec stylize`
    bits.py      where in a picture the bits go
    page/        what the browser gets, with the files in vrcodec/frontend/ that reports have, too

No picture is kept on disk, and nobody but the browser that has the page's address is answered.
"""
