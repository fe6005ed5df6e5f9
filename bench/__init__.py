"""What we cost over the floor: each figure beside the least that it could be.

``bin/bench`` runs it; ``docs/performance.md`` says how each figure is taken.
"""
