"""What runs in the sandbox: an interpreter without site packages, which imports nothing else of Gristmill.

A worker is a tree of processes, and each knows no more than it must:

    parent (Gristmill)   asks, holds the deadline, kills                        sandbox.py
      keeper             builds the sandbox, ends it when the parent is gone    zygote.py
        zygote           forks a fresh run whenever the last is over; reads no data
          checker        has the tests and the expected values, gives the verdict    checker.py
            runner       first process of the candidate's namespaces; has its exit   runner.py
              candidate  has its own code and the arguments of the calls

The checker and the candidate are forked before either has read anything, and share a socket, over which plain values
go (`values.py`, `channel.py`). The verdict goes over another, which no process beneath the checker has open.
"""
