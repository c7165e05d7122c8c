CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    phone TEXT NOT NULL,
    role TEXT NOT NULL,
    credit BIGINT NOT NULL,
    password_hash TEXT NOT NULL,
    card_number TEXT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    item TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    total BIGINT NOT NULL,
    status TEXT NOT NULL,
    note TEXT NOT NULL,
    internal_margin BIGINT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE TABLE refunds (
    id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL,
    amount BIGINT NOT NULL,
    reason TEXT NOT NULL,
    created_at TEXT NOT NULL
);

INSERT INTO customers VALUES
    ('alice', 'Alice Archer', 'alice@example.com', '+49 30 1234567', 'customer', 100, '5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8', '4111111111111111', '2026-01-05T09:00:00Z'),
    ('bob', 'Bob Baker', 'bob@example.com', '+44 20 7654321', 'customer', 50, '6cf615d5bcaac778352a8f1f3360d23f02f34ec182e259897fd6ce485d7870d4', '5555555555554444', '2026-02-11T14:30:00Z'),
    ('carol', 'Carol Cook', 'carol@example.com', '+1 212 5550100', 'manager', 0, '5906ac361a137e2d286465cd6588ebb5ac3f5ae955001100bc41577c3d751764', '378282246310005', '2025-11-20T08:15:00Z');

INSERT INTO orders VALUES
    ('ord_1001', 'alice', 'Espresso machine', 1, 499, 'shipped', 'Leave with the neighbour', 120, '2026-03-01T10:00:00Z'),
    ('ord_1002', 'alice', 'Coffee beans 1 kg', 4, 72, 'delivered', '', 20, '2026-03-09T16:45:00Z'),
    ('ord_1003', 'alice', 'Milk jug', 2, 38, 'open', 'Gift wrap please', 11, '2026-04-02T07:20:00Z'),
    ('ord_1004', 'bob', 'Oak desk', 1, 890, 'shipped', 'Third floor, no lift', 260, '2026-02-14T12:00:00Z'),
    ('ord_1005', 'bob', 'Desk lamp', 2, 118, 'cancelled', '', 31, '2026-02-20T18:05:00Z'),
    ('ord_1006', 'bob', 'Monitor arm', 1, 129, 'open', 'Call before delivery', 40, '2026-04-11T11:11:00Z'),
    ('ord_1007', 'carol', 'Chef knife', 1, 215, 'delivered', '', 75, '2026-01-25T09:30:00Z'),
    ('ord_1008', 'carol', 'Cutting board', 3, 96, 'open', 'For the restaurant', 24, '2026-04-15T13:37:00Z');
