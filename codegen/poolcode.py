"""The LLVM code of `codegen.pool`: a launch, a helper, and what they do with blocks.

In: the address of the pool's words (`codegen.pool` lists them) and the instruction that makes
waiting cheap. Out: text with `codegen_pool_run` and `codegen_pool_help`.
"""

from __future__ import annotations

MOST = 255
"""Helpers of one pool."""
FIRST, STRIDE = 64, 16
CPUS, CPU_WORDS = FIRST + STRIDE * MOST, 16
STATE, HELPERS, DONE, ONE, SEVERAL, PRESENT_CPU, SET_CPUS = 16, 51, 52, 53, 54, 56, 57
CLOSED = 1 << 32

CODE = """
declare i32 @codegen_pool_acquire(ptr, i32)
declare void @codegen_pool_release(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal void @send_away(ptr %pool, ptr %helper, i64 %cpu) {
  %at_left = getelementptr i64, ptr %helper, i64 3
  %left = load i64, ptr %at_left
  %other = icmp ne i64 %left, %cpu
  %known = icmp ult i64 %cpu, CPU_BITS
  %go = and i1 %other, %known
  br i1 %go, label %copy, label %end
copy:
  %mask = alloca [CPU_WORDS x i64]
  %cpus = getelementptr i64, ptr %pool, i64 CPUS
  call void @llvm.memcpy.p0.p0.i64(ptr %mask, ptr %cpus, i64 CPU_BYTES, i1 0)
  %number = lshr i64 %cpu, 6
  %at_word = getelementptr i64, ptr %mask, i64 %number
  %word = load i64, ptr %at_word
  %place = and i64 %cpu, 63
  %bit = shl i64 1, %place
  %others = xor i64 %bit, -1
  %without = and i64 %word, %others
  store i64 %without, ptr %at_word
  store i64 %cpu, ptr %at_left
  %at_thread = getelementptr i64, ptr %helper, i64 2
  %thread64 = load i64, ptr %at_thread
  %thread = trunc i64 %thread64 to i32
  %at_set = getelementptr i64, ptr %pool, i64 57
  %set = load ptr, ptr %at_set
  %failed = call i32 %set(i32 %thread, i64 CPU_BYTES, ptr %mask)
  br label %end
end:
  ret void
}

define internal void @work(ptr %pool) {
  %next = getelementptr i64, ptr %pool, i64 32
  %at_task = getelementptr i64, ptr %pool, i64 48
  %at_data = getelementptr i64, ptr %pool, i64 49
  %at_count = getelementptr i64, ptr %pool, i64 50
  %task = load ptr, ptr %at_task
  %data = load ptr, ptr %at_data
  %count = load i64, ptr %at_count
  br label %take
take:
  %block = atomicrmw add ptr %next, i64 1 acq_rel
  %more = icmp slt i64 %block, %count
  br i1 %more, label %one, label %done
one:
  call void %task(ptr %data, i64 %block)
  br label %take
done:
  ret void
}

define void @codegen_pool_run(ptr %task, ptr %data, i64 %count, i64 %library) {
  %pool = inttoptr i64 POOL to ptr
  %claim = cmpxchg ptr %pool, i64 0, i64 1 acq_rel monotonic
  %mine = extractvalue {i64, i1} %claim, 1
  br i1 %mine, label %prepare, label %alone
alone:
  %i = phi i64 [0, %0], [%i_next, %alone_one]
  %i_more = icmp slt i64 %i, %count
  br i1 %i_more, label %alone_one, label %end
alone_one:
  call void %task(ptr %data, i64 %i)
  %i_next = add i64 %i, 1
  br label %alone
prepare:
  %state = getelementptr i64, ptr %pool, i64 16
  %next = getelementptr i64, ptr %pool, i64 32
  %at_task = getelementptr i64, ptr %pool, i64 48
  %at_data = getelementptr i64, ptr %pool, i64 49
  %at_count = getelementptr i64, ptr %pool, i64 50
  %at_helpers = getelementptr i64, ptr %pool, i64 51
  %at_done = getelementptr i64, ptr %pool, i64 52
  %at_one = getelementptr i64, ptr %pool, i64 53
  %at_several = getelementptr i64, ptr %pool, i64 54
  %one = load ptr, ptr %at_one
  %several = load ptr, ptr %at_several
  %has_library = icmp ne i64 %library, 0
  %has_one = icmp ne ptr %one, null
  %limits = and i1 %has_library, %has_one
  br i1 %limits, label %limit, label %open
limit:
  call void %one()
  br label %open
open:
  store ptr %task, ptr %at_task
  store ptr %data, ptr %at_data
  store i64 %count, ptr %at_count
  store atomic i64 0, ptr %next monotonic, align 8
  store atomic i64 0, ptr %state release, align 8
  %helpers = load atomic i64, ptr %at_helpers monotonic, align 8
  %others = sub i64 %count, 1
  %few = icmp slt i64 %others, %helpers
  %wanted = select i1 %few, i64 %others, i64 %helpers
  %at_present = getelementptr i64, ptr %pool, i64 56
  %present = load ptr, ptr %at_present
  %can_ask = icmp ne ptr %present, null
  br i1 %can_ask, label %ask, label %call
ask:
  %here = call i32 %present()
  %here64 = sext i32 %here to i64
  br label %call
call:
  %cpu = phi i64 [-1, %open], [%here64, %ask]
  br label %call_next
call_next:
  %k = phi i64 [0, %call], [%k_next, %called]
  %k_more = icmp slt i64 %k, %wanted
  br i1 %k_more, label %call_one, label %working
call_one:
  %k_words = mul i64 %k, 16
  %k_at = add i64 %k_words, 64
  %at_call = getelementptr i64, ptr %pool, i64 %k_at
  call void @send_away(ptr %pool, ptr %at_call, i64 %cpu)
  %was = atomicrmw xchg ptr %at_call, i64 CALLED acq_rel
  %asleep = icmp eq i64 %was, ASLEEP
  br i1 %asleep, label %wake, label %called
wake:
  %at_lock = getelementptr i64, ptr %at_call, i64 1
  %lock = load ptr, ptr %at_lock
  call void @codegen_pool_release(ptr %lock)
  br label %called
called:
  %k_next = add i64 %k, 1
  br label %call_next
working:
  call void @work(ptr %pool)
  %last = atomicrmw or ptr %state, i64 CLOSED acq_rel
  %inside = icmp ne i64 %last, 0
  br i1 %inside, label %watch, label %finished
watch:
  %looks = phi i64 [0, %working], [%looks_next, %look_again]
  %seen = load atomic i64, ptr %state acquire, align 8
  %gone = icmp eq i64 %seen, CLOSED
  %enough = icmp sge i64 %looks, LOOKS
  %leave = or i1 %gone, %enough
  br i1 %leave, label %wait, label %look_again
look_again:
  %looks_next = add i64 %looks, 1
  br label %watch
wait:
  %done = load ptr, ptr %at_done
  %ignored = call i32 @codegen_pool_acquire(ptr %done, i32 1)
  br label %finished
finished:
  br i1 %limits, label %restore, label %free
restore:
  call void %several()
  br label %free
free:
  store atomic i64 0, ptr %pool release, align 8
  br label %end
end:
  ret void
}

define void @codegen_pool_help(ptr %at_call) {
  %pool = inttoptr i64 POOL to ptr
  %state = getelementptr i64, ptr %pool, i64 16
  %at_done = getelementptr i64, ptr %pool, i64 52
  %done = load ptr, ptr %at_done
  %at_lock = getelementptr i64, ptr %at_call, i64 1
  %lock = load ptr, ptr %at_lock
  br label %sleep
sleep:
  %ignored = call i32 @codegen_pool_acquire(ptr %lock, i32 1)
  br label %awake
awake:
  %called = atomicrmw xchg ptr %at_call, i64 AWAKE acq_rel
  br label %join
join:
  %now = load atomic i64, ptr %state acquire, align 8
  %bit = and i64 %now, CLOSED
  %closed = icmp ne i64 %bit, 0
  br i1 %closed, label %rest, label %enter
enter:
  %more = add i64 %now, 1
  %entered = cmpxchg ptr %state, i64 %now, i64 %more acq_rel monotonic
  %in = extractvalue {i64, i1} %entered, 1
  br i1 %in, label %busy, label %join
busy:
  call void @work(ptr %pool)
  %left = atomicrmw sub ptr %state, i64 1 acq_rel
  %last = icmp eq i64 %left, LAST
  br i1 %last, label %tell, label %rest
tell:
  call void @codegen_pool_release(ptr %done)
  br label %rest
rest:
  br label %listen
listen:
  %turn = phi i64 [0, %rest], [%turn_next, %listen_again]
  %word = load atomic i64, ptr %at_call acquire, align 8
  %again = icmp eq i64 %word, CALLED
  br i1 %again, label %awake, label %quiet
quiet:
  %tired = icmp sge i64 %turn, REST
  br i1 %tired, label %lie_down, label %listen_again
listen_again:
  PAUSE
  %turn_next = add i64 %turn, 1
  br label %listen
lie_down:
  %lying = cmpxchg ptr %at_call, i64 AWAKE, i64 ASLEEP acq_rel monotonic
  %down = extractvalue {i64, i1} %lying, 1
  br i1 %down, label %sleep, label %awake
}
"""
LOOKS = 4000
"""How often the caller looks whether the last helper is done before it sleeps: microseconds."""
REST = 4000
"""How often a helper looks for new work before it sleeps: some 60 us. It then has a CPU already
when the next loop or product of the program comes, instead of waiting for one."""
ASLEEP, CALLED, AWAKE = 0, 1, 2
"""What may stand in the word by which a helper is called."""


def source(base: int, pause: str) -> str:
    """The text of the module."""
    words = {"POOL": base, "CLOSED": CLOSED, "LAST": CLOSED + 1, "LOOKS": LOOKS, "REST": REST}
    words |= {"ASLEEP": ASLEEP, "CALLED": CALLED, "AWAKE": AWAKE, "PAUSE": pause}
    words |= {"CPU_BITS": 64 * CPU_WORDS, "CPU_BYTES": 8 * CPU_WORDS}
    words |= {"CPU_WORDS": CPU_WORDS, "CPUS": CPUS}
    text = CODE
    for word, value in words.items():
        text = text.replace(word, str(value))
    return text
