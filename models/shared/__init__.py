"""What several systems measure of a classifier."""
