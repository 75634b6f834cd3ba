"""Token ids to hidden states to one embedding a sentence."""
