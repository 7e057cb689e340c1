"""What the best buyer can earn against a scripted seller, and a buyer that earns it."""
