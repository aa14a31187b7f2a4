"""openstacksdk over every service, a module for each, and the proof that nothing of it was left out (`asked`)."""
