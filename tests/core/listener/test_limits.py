from mailcrane.listener.limits import ConnectionLimits


class _Time:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_an_address_may_hold_open_only_so_many_connections() -> None:
    limits = ConnectionLimits((0, 0, 0), (2, 9, 9), clock=_Time())
    assert [limits.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    limits.leave("192.0.2.1")
    assert limits.enter("192.0.2.1")


def test_the_network_around_an_address_is_limited_too() -> None:
    limits = ConnectionLimits((0, 0, 0), (2, 3, 9), clock=_Time())
    assert [limits.enter(f"192.0.2.{number}") for number in range(4)] == [True, True, True, False]
    assert limits.enter("192.0.2.200")


def test_new_connections_are_limited_per_minute() -> None:
    time = _Time()
    limits = ConnectionLimits((2, 9, 9), (0, 0, 0), clock=time)
    for _ in range(2):
        assert limits.enter("2001:db8::1")
        limits.leave("2001:db8::1")
    assert not limits.enter("2001:db8::2")
    time.seconds = 60.0
    assert limits.enter("2001:db8::2")


def test_nothing_is_left_of_connections_that_ended() -> None:
    limits = ConnectionLimits((0, 0, 0), (1, 1, 1), clock=_Time())
    for _ in range(3):
        assert limits.enter("127.0.0.1")
        limits.leave("127.0.0.1")
