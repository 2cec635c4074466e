"""Device back ends: everything that may know what the hardware is, behind one protocol (base.py)."""
