"""Sealed runs in dataset repositories of the Hugging Face hub: pushed with a card, pulled and attached."""
