"""Every figure of the report: ``style`` (colours, banner, saving), ``data``, ``results``, ``explain`` and ``predict``.

One function a figure; each returns a finished matplotlib Figure.
"""
