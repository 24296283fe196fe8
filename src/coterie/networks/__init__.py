"""What sees and what decides: encoders and their backbones, heads, teachers, memory banks, and the file that predicts."""
