-- The shop of the demonstration. Every value is computed, so each run has the same rows; no e-mail address and no
-- number belongs to anybody (example.com; numbers that begin with 9 are never given out).

CREATE TABLE customers (
    id         int PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL,
    ssn        text NOT NULL,
    created_at date NOT NULL
);

CREATE TABLE orders (
    id          int PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    status      text NOT NULL,
    total       numeric(10, 2) NOT NULL,
    created_at  date NOT NULL,
    note        text
);

CREATE TABLE payments (
    id       int PRIMARY KEY,
    order_id int NOT NULL REFERENCES orders,
    amount   numeric(10, 2) NOT NULL,
    method   text NOT NULL,
    paid_at  date NOT NULL
);

INSERT INTO customers
SELECT id, first || ' ' || last, lower(first || '.' || last) || id || '@example.com',
       format('9%s-%s-%s', lpad((id * 37 % 100)::text, 2, '0'), lpad((id * 53 % 90 + 10)::text, 2, '0'),
              lpad((id * 7919 % 10000)::text, 4, '0')),
       date '2023-01-01' + id % 700
FROM (
    SELECT id, (ARRAY['Ada', 'Bruno', 'Chiara', 'Dmitri', 'Elif', 'Farid', 'Grete', 'Hana', 'Ivo', 'June'])[id % 10 + 1],
           (ARRAY['Abbott', 'Brandt', 'Costa', 'Duval', 'Eriksen', 'Fischer', 'Gallo'])[id % 7 + 1]
    FROM generate_series(1, 1000) AS ids (id)
) AS people (id, first, last);

-- Every fiftieth order was begun and left; it has no payment.
INSERT INTO orders
SELECT id, id * 13 % 1000 + 1,
       CASE WHEN id % 50 = 0 THEN 'stale' WHEN id % 5 = 0 THEN 'open' ELSE 'paid' END,
       (id * 1237 % 50000 + 500) / 100.0, date '2024-01-01' + id % 600,
       CASE WHEN id % 9 = 0 THEN 'gift wrapped' END
FROM generate_series(1, 3000) AS ids (id);

INSERT INTO payments
SELECT row_number() OVER (ORDER BY id), id, total, (ARRAY['card', 'transfer', 'voucher'])[id % 3 + 1], created_at + 2
FROM orders WHERE status = 'paid';

-- The proxy's role owns the tables: what stops it from dropping one is the policies alone.
ALTER TABLE customers OWNER TO shop_proxy;
ALTER TABLE orders OWNER TO shop_proxy;
ALTER TABLE payments OWNER TO shop_proxy;
ANALYZE;
