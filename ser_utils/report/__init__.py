"""The notebooks run and rendered as a site; finished runs published."""
