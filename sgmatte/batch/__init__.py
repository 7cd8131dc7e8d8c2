"""Many photos, on one machine or several, without losing work.

inputs.py says which photos, names.py where results go, tasks.py what is done to each (picklable settings that make a
worker), engines.py and remote.py who does it, manifest.py what is known of it on the disk; run.py joins them.
"""
