"""What several systems share: a ray-caster for every sensor, and one sample of a drive."""
