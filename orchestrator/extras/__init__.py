"""What needs more than the house does. Each says what to type if that is missing; the house imports none of it."""
