"""How the rooms report progress to whoever shows it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

# bar(title, total): a progress bar while the block runs; what it yields is called with the number just done.
# Processes that are started get it pickled, so it must be a function of a module.
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

# counter(title): the same for a total that is found on the way; what it yields is called with the number done
# so far, and of all.
Advance = Callable[[int, int], None]
Counter = Callable[[str], AbstractContextManager[Advance]]
