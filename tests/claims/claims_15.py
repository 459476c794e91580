"""Numbers in the prose of notebooks/15_try_it.ipynb."""

import facts

CLAIMS = [("notebooks/15_try_it.ipynb", "On voices it never heard AlexNet is right for {:.1f} % of the clips",
           lambda: facts.network("alexnet").accuracy["actors"])]
