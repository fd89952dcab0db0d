"""Video providers behind one interface: peer, jitsi, daily, chime.

The room knows nothing of lessons: it makes meeting rooms, lets people into them and records them. Start with
:mod:`meetings.provider`, the interface; :mod:`meetings.providers` is the table of those that there are.
"""
