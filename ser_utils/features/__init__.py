"""From a recording to log-mel spectrograms, MFCCs and prosody."""
