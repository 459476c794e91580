"""Every figure of the report: ``style`` (colours, banner, saving), ``data``, ``results`` and ``models``.

One function a figure; each returns a finished matplotlib Figure.
"""
