# Shared by both steps: writes the reward that is told.
give() {
  echo "$1" > /logs/verifier/reward.txt
}
