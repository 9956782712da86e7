"""Memory that two processes of one host share, so that a tensor goes from one to the other without its bytes being sent.

``segment`` makes such memory, ``places`` finds it again under an array, ``mappings`` takes what another process shows us,
and trusts none of it. Knows no socket and no message.
"""
