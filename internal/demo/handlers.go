package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"
)

func (a *API) health(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.row(r.Context(), "SELECT 1 AS ok"); err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"status": "ok"})
	return nil
}

// listOrders searches everyone's orders.
//
// INTENTIONALLY VULNERABLE: SQL injection in q, status and sort; no owner check;
// internal_margin is in the answer.
func (a *API) listOrders(w http.ResponseWriter, r *http.Request) error {
	get := r.URL.Query().Get
	query := "SELECT * FROM orders WHERE (item LIKE '%" + get("q") + "%' OR note LIKE '%" + get("q") + "%')"
	if s := get("status"); s != "" {
		query += " AND status = '" + s + "'"
	}
	sort, limit, offset := "created_at", "20", "0"
	if s := get("sort"); s != "" {
		sort = s
	}
	if s := get("limit"); s != "" {
		limit = s
	}
	if s := get("offset"); s != "" {
		offset = s
	}
	query += " ORDER BY " + sort + " LIMIT " + limit + " OFFSET " + offset
	orders, err := a.rows(r.Context(), query)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"orders": orders, "count": len(orders)})
	return nil
}

// createOrder takes an order for any customer.
//
// INTENTIONALLY VULNERABLE: the caller sets customer, total and status; nothing
// is checked, negative quantities included.
func (a *API) createOrder(w http.ResponseWriter, r *http.Request) error {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	id, err := newID("ord_")
	if err != nil {
		return err
	}
	order := map[string]any{
		"id": id, "customer_id": "", "item": "", "quantity": 1, "total": 0, "status": "open", "note": "",
		"internal_margin": 0, "created_at": time.Now().UTC().Format(time.RFC3339),
	}
	maps.Copy(order, in)
	columns, holes, values := make([]string, 0, len(order)), make([]string, 0, len(order)), make([]any, 0, len(order))
	for k, v := range order {
		columns, values = append(columns, k), append(values, v)
		holes = append(holes, fmt.Sprintf("$%d", len(values)))
	}
	err = a.exec(r.Context(), "INSERT INTO orders ("+strings.Join(columns, ", ")+") VALUES ("+strings.Join(holes, ", ")+")", values...)
	if err != nil {
		return err
	}
	a.publish(order)
	w.Header().Set("Location", "/orders/"+id)
	answer(w, http.StatusCreated, order)
	return nil
}

// getOrder shows an order.
//
// INTENTIONALLY VULNERABLE: any caller may read any order (broken object level
// authorization), and its internal_margin.
func (a *API) getOrder(w http.ResponseWriter, r *http.Request) error {
	order, err := a.row(r.Context(), "SELECT * FROM orders WHERE id = $1", r.PathValue("orderId"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, order)
	return nil
}

// refundOrder pays money back.
//
// INTENTIONALLY VULNERABLE: any caller, any order, any amount, more than was
// paid, negative, and as often as wanted.
func (a *API) refundOrder(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Amount int64  `json:"amount"`
		Reason string `json:"reason"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	order, err := a.row(r.Context(), "SELECT * FROM orders WHERE id = $1", r.PathValue("orderId"))
	if err != nil {
		return err
	}
	id, err := newID("ref_")
	if err != nil {
		return err
	}
	refund := map[string]any{
		"id": id, "order_id": order["id"], "amount": in.Amount, "reason": in.Reason,
		"created_at": time.Now().UTC().Format(time.RFC3339),
	}
	err = a.exec(r.Context(), "INSERT INTO refunds (id, order_id, amount, reason, created_at) VALUES ($1, $2, $3, $4, $5)",
		id, order["id"], in.Amount, in.Reason, refund["created_at"])
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, refund)
	return nil
}

// getCustomer shows a customer.
//
// INTENTIONALLY VULNERABLE: any caller may read any customer, with password
// hash and card number (excessive data exposure).
func (a *API) getCustomer(w http.ResponseWriter, r *http.Request) error {
	c, err := a.row(r.Context(), "SELECT * FROM customers WHERE id = $1", r.PathValue("customerId"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, c)
	return nil
}

// updateCustomer changes a customer.
//
// INTENTIONALLY VULNERABLE: mass assignment (role and credit included), SQL
// from the names of the fields, no owner check.
func (a *API) updateCustomer(w http.ResponseWriter, r *http.Request) error {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	id := r.PathValue("customerId")
	if len(in) > 0 {
		var sets []string
		values := []any{id}
		for k, v := range in {
			values = append(values, v)
			sets = append(sets, fmt.Sprintf("%s = $%d", k, len(values)))
		}
		if err := a.exec(r.Context(), "UPDATE customers SET "+strings.Join(sets, ", ")+" WHERE id = $1", values...); err != nil {
			return err
		}
	}
	return a.getCustomer(w, r)
}

// listCustomerOrders shows a customer's orders.
//
// INTENTIONALLY VULNERABLE: any caller may read any customer's.
func (a *API) listCustomerOrders(w http.ResponseWriter, r *http.Request) error {
	orders, err := a.rows(r.Context(), "SELECT * FROM orders WHERE customer_id = $1 ORDER BY created_at", r.PathValue("customerId"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"orders": orders, "count": len(orders)})
	return nil
}

// greet says hello.
//
// INTENTIONALLY VULNERABLE: reflected cross-site scripting.
func (a *API) greet(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = fmt.Fprintf(w, "<!doctype html>\n<h1>Hello, %s!</h1>\n", r.URL.Query().Get("name"))
	return nil
}

// ping pretends to look whether a host is there.
//
// INTENTIONALLY VULNERABLE: command injection. The shell starts with an empty
// environment, may not write to files, and is killed after two seconds with what
// it started; see guard for who can reach it.
func (a *API) ping(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Host string `json:"host"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	out, err := shell(ctx, "echo pinging "+in.Host)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	answer(w, http.StatusOK, map[string]any{"output": string(out)})
	return nil
}

// export gives everything away.
//
// INTENTIONALLY VULNERABLE: an administrator's operation without a login.
func (a *API) export(w http.ResponseWriter, r *http.Request) error {
	all := map[string]any{}
	for _, table := range []string{"customers", "orders", "refunds"} {
		rs, err := a.rows(r.Context(), "SELECT * FROM "+table+" ORDER BY id")
		if err != nil {
			return err
		}
		all[table] = rs
	}
	answer(w, http.StatusOK, all)
	return nil
}

// newID gives prefix and eight digits.
func newID(prefix string) (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(90_000_000))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%d", prefix, n.Int64()+10_000_000), nil
}
